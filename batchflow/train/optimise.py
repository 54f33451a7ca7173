"""One optimiser step: learning rate, loss, gradient, and a guard against losses that are no numbers."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from batchflow.errors import UserError
from batchflow.flow.density import PosteriorDensity
from batchflow.flow.features import Features
from batchflow.train.threads import Crew, parts

WARM_UP = 0.3
"""Share of the training in which the learning rate rises to its peak."""
FIRST_RATE = 0.04
"""Learning rate at the start over its peak."""
BETAS = (0.9, 0.98)
"""Memory of AdamW: shorter than the usual 0.999, for trainings of a few thousand steps."""
LARGEST_GRADIENT = 1.0
"""Gradients are clipped to this norm."""


def one_cycle(fraction: float) -> float:
    """Learning rate over its peak: up half a cosine, then down another to zero (Smith & Topin 2017).

    Parameters
    ----------
    fraction : float
        Of the training that is done, 0 to 1.

    Returns
    -------
    float
        Between 0 and 1.
    """
    if fraction < WARM_UP:
        return FIRST_RATE + (1 - FIRST_RATE) * 0.5 * (1 - math.cos(math.pi * fraction / WARM_UP))
    return 0.5 * (1 + math.cos(math.pi * (min(fraction, 1.0) - WARM_UP) / (1 - WARM_UP)))


class Optimisation:
    """A density with its optimiser and the losses since the last look; all on the density's device."""

    def __init__(self, density: PosteriorDensity, peak_rate: float, crew: Crew | None = None) -> None:
        self.density = density
        self.crew = crew or Crew(1)
        self.peak_rate = peak_rate
        self.rate = 0.0
        self._weights = [weight for weight in density.parameters() if weight.requires_grad]
        self.optimiser = torch.optim.AdamW(self._weights, lr=peak_rate, betas=BETAS, fused=True)
        device = density.low.device
        self.loss_sum = torch.zeros((), dtype=torch.float64, device=device)
        self.steps = torch.zeros((), dtype=torch.int64, device=device)
        self._first_bad = torch.full((), -1, dtype=torch.int64, device=device)

    def step(self, theta: Tensor, features: Features, fraction: float) -> None:
        """Train on a batch.

        Parameters
        ----------
        theta : Tensor, shape (n, n_parameters)
            True parameters; `log_mass` as seen at 10 pc.
        features : Features
            Of the mocks' photometry.
        fraction : float
            Of the training that is done: it sets the learning rate.
        """
        self.rate = self.peak_rate * one_cycle(fraction)
        for group in self.optimiser.param_groups:
            group["lr"] = self.rate
        found = self.crew.map(
            lambda rows: self._slope(theta[rows], features.rows(rows), len(theta)),
            parts(len(theta), theta.device),
        )
        for weight, *slopes in zip(self._weights, *(slope for _, slope in found), strict=True):
            weight.grad = sum(slopes[1:], start=slopes[0])
        nn.utils.clip_grad_norm_(self._weights, LARGEST_GRADIENT)
        self.optimiser.step()
        self._count(sum((loss for loss, _ in found[1:]), start=found[0][0]))

    def check(self, epoch: int, batch: int) -> None:
        """Look whether every loss since the last look was a number.

        Parameters
        ----------
        epoch, batch : int
            Place of the last batch, for the message.

        Raises
        ------
        UserError
            Naming the first bad batch.
        """
        first = int(self._first_bad)
        if first < 0:
            return
        since = int(self.steps) - 1 - first
        raise UserError(
            f"training diverged: the loss is not finite at epoch {epoch}, batch {batch - since}, with a "
            f"learning rate of {self.rate:.3g}; set train.learning_rate lower than {self.peak_rate:g}"
        )

    def take_loss(self) -> float:
        """Mean loss since the last call [nat]."""
        mean = float(self.loss_sum / self.steps) if int(self.steps) else math.nan
        self.loss_sum.zero_()
        self.steps.zero_()
        return mean

    def _slope(self, theta: Tensor, features: Features, total: int) -> tuple[Tensor, tuple[Tensor, ...]]:
        """Part of the loss that some of a batch's `total` rows make, and its gradient."""
        loss = -self.density.log_prob(theta, self.density.condition(features)).sum() / total
        return loss.detach(), torch.autograd.grad(loss, self._weights)

    def _count(self, loss: Tensor) -> None:
        bad = ~loss.isfinite() & (self._first_bad < 0)
        self._first_bad = torch.where(bad, self.steps, self._first_bad)
        self.loss_sum += loss
        self.steps += 1
