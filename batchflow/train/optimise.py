"""One optimiser step: learning rate, loss, gradient, and a guard against losses that are no numbers."""

from __future__ import annotations

import math
from functools import reduce

import torch
from torch import Tensor

from batchflow.errors import UserError
from batchflow.flow.density import Batch
from batchflow.flow.model import ConditionalFlow
from batchflow.train.board import lay_out, views
from batchflow.train.hands import Hands
from batchflow.train.parts import parts, slope
from batchflow.train.soap import Soap

WARM_UP = 0.3
"""Share of the training in which the learning rate rises to its peak."""
FIRST_RATE = 0.04
"""Learning rate at the start over its peak."""
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
    """A flow with its optimiser and the losses since the last look; all on the flow's device.

    The flow's weights lie side by side, and so do their gradients: each is a view of one array.
    """

    def __init__(self, flow: ConditionalFlow, peak_rate: float) -> None:
        self.flow = flow
        self.peak_rate = peak_rate
        self.rate = 0.0
        self._weights = list(flow.parameters())
        device = self._weights[0].device
        size = sum(weight.numel() for weight in self._weights)
        lay_out(self._weights, torch.empty(size, device=device))
        self._slope = torch.zeros(size, device=device)
        for weight, own in zip(self._weights, views(self._slope, self._weights), strict=True):
            weight.grad = own
        self._hands: Hands | None = None
        self.optimiser = Soap(self._weights, peak_rate)
        self.loss_sum = torch.zeros((), dtype=torch.float64, device=device)
        self.steps = torch.zeros((), dtype=torch.int64, device=device)
        self._first_bad = torch.full((), -1, dtype=torch.int64, device=device)

    def share(self, hands: Hands | None) -> None:
        """Let processes do the arithmetic from now on: the weights move into the memory they see."""
        self._hands = hands
        if hands is None:
            return
        lay_out(self._weights, hands.board.weights)

    def step(self, examples: Batch, fraction: float) -> None:
        """Train on a batch.

        Parameters
        ----------
        examples : Batch
            The batch.
        fraction : float
            Of the training that is done: it sets the learning rate.
        """
        self.rate = self.peak_rate * one_cycle(fraction)
        for group in self.optimiser.param_groups:
            group["lr"] = self.rate
        losses, slopes = zip(*self._slopes(examples), strict=True)
        self._slope.copy_(reduce(torch.add, slopes))
        self._slope.mul_((LARGEST_GRADIENT / self._slope.norm()).clamp(max=1.0))
        self.optimiser.step()
        self._count(reduce(torch.add, losses))

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

    def _slopes(self, examples: Batch) -> list[tuple[Tensor, Tensor]]:
        """Loss and gradient of each part of a batch, in order."""
        if self._hands is not None:
            return self._hands.slopes(examples)
        total = len(examples.unit)
        own = parts(total, examples.unit.device)
        return [slope(self.flow, examples.rows(rows), total) for rows in own]

    def _count(self, loss: Tensor) -> None:
        bad = ~loss.isfinite() & (self._first_bad < 0)
        self._first_bad = torch.where(bad, self.steps, self._first_bad)
        self.loss_sum += loss
        self.steps += 1
