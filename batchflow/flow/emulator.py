"""A small network for the noise-free fluxes, so that the flow knows roughly how bright a model is.

It only sets the origin of the mass coordinate (`mass.py`): its errors cost the flow some effort and
the posterior nothing.
"""

from __future__ import annotations

import math

import torch
from torch import Generator, Tensor, nn
from torch.nn.functional import mse_loss

HIDDEN = 64
OCTAVES = 6
"""Sines and cosines of each parameter; with fewer, the bends of stellar evolution are lost."""
BATCH = 1024
LEARNING_RATE = 1e-2


class FluxEmulator(nn.Module):
    """log10 fluxes of 1 Msun at 10 pc over the unit cube of all parameters but log_mass."""

    mean: Tensor
    spread: Tensor

    def __init__(self, n_parameters: int, n_bands: int) -> None:
        super().__init__()
        seen = n_parameters * (1 + 2 * OCTAVES)
        sizes = [(seen, HIDDEN), (HIDDEN, HIDDEN), (HIDDEN, n_bands)]
        self.layers = nn.ModuleList(nn.Linear(*size) for size in sizes)
        self.register_buffer("mean", torch.zeros(n_bands))
        self.register_buffer("spread", torch.ones(n_bands))

    def forward(self, unit: Tensor) -> Tensor:
        """Emulate.

        Parameters
        ----------
        unit : Tensor, shape (..., n_parameters)
            Points of the unit cube.

        Returns
        -------
        Tensor, shape (..., n_bands)
            log10 flux density [mJy].
        """
        return self.mean + self.spread * self._standard(unit)

    def fit(self, unit: Tensor, log_flux: Tensor, steps: int, generator: Generator) -> float:
        """Fit to noise-free mocks; afterwards the weights stay as they are.

        Parameters
        ----------
        unit : Tensor, shape (n, n_parameters)
            Points of the unit cube.
        log_flux : Tensor, shape (n, n_bands)
            log10 flux density [mJy] of 1 Msun at 10 pc.
        steps : int
            Batches of the fit.
        generator : torch.Generator
            Of the CPU.

        Returns
        -------
        float
            Root mean square error of the last batch [dex].
        """
        self.mean.copy_(log_flux.mean(0))
        self.spread.copy_(log_flux.std(0).clamp(min=1e-3))
        optimiser = torch.optim.Adam(self.layers.parameters(), lr=LEARNING_RATE)
        error = torch.zeros(())
        for step in range(steps):
            optimiser.param_groups[0]["lr"] = LEARNING_RATE * (1 - step / steps)
            rows = torch.randint(0, unit.shape[0], (BATCH,), generator=generator).to(unit.device)
            error = mse_loss(self._standard(unit[rows]), (log_flux[rows] - self.mean) / self.spread)
            optimiser.zero_grad()
            error.backward()
            optimiser.step()
        self.requires_grad_(False)
        return float(error.detach().sqrt() * self.spread.square().mean().sqrt())

    def _standard(self, unit: Tensor) -> Tensor:
        waves = [math.pi * 2**octave * unit for octave in range(OCTAVES)]
        hidden = torch.cat([2 * unit - 1, *map(torch.sin, waves), *map(torch.cos, waves)], -1)
        for layer in self.layers[:-1]:
            hidden = nn.functional.silu(layer(hidden))
        found: Tensor = self.layers[-1](hidden)
        return found
