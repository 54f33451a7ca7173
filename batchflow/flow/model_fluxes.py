"""The model's noise-free fluxes within the network: the origin of the mass coordinate (`mass.py`)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from batchflow.physics.torch_table import TorchFluxTable


class ModelFluxes(nn.Module):
    """A flux table over all parameters but log_mass; until it is filled, a source without colours."""

    log_flux: Tensor

    def __init__(self, parameters: tuple[str, ...], n_bands: int) -> None:
        super().__init__()
        self.axes = parameters
        ends = tuple(torch.tensor([0.0, 1.0]) for _ in parameters)
        self.fill(TorchFluxTable(parameters, ends, torch.zeros(2 ** len(parameters), n_bands)))

    def fill(self, table: TorchFluxTable) -> None:
        """Take a table, whose axes are the parameters in their order."""
        if table.parameters != self.axes:
            raise ValueError(f"a table of {table.parameters}; expected {self.axes}")
        for name, axis in zip(table.parameters, table.nodes, strict=True):
            self.register_buffer(f"nodes_{name}", axis)
        self.register_buffer("log_flux", table.log_flux)

    def forward(self, values: Tensor) -> Tensor:
        """Interpolate.

        Parameters
        ----------
        values : Tensor, shape (..., n_parameters)
            In their units, in the order of `axes`.

        Returns
        -------
        Tensor, shape (..., n_bands)
            log10 flux density [mJy] of 1 Msun formed at 10 pc.
        """
        nodes = tuple(getattr(self, f"nodes_{name}") for name in self.axes)
        columns = values.reshape(-1, len(self.axes)).unbind(-1)
        found = TorchFluxTable(self.axes, nodes, self.log_flux)(dict(zip(self.axes, columns, strict=True)))
        return found.reshape(*values.shape[:-1], -1) / math.log(10.0)

    def _load_from_state_dict(self, state_dict: Mapping[str, Any], prefix: str, *others: Any) -> None:
        """Take the shapes of what is loaded: a table is as large as its physics asks for."""
        for name, own in list(self.named_buffers(recurse=False)):
            saved = state_dict.get(prefix + name)
            if isinstance(saved, Tensor):
                self.register_buffer(name, torch.empty_like(saved, device=own.device))
        super()._load_from_state_dict(state_dict, prefix, *others)
