"""Early stopping: the best weights so far, and how long they have been the best."""

from __future__ import annotations

import math
from typing import Any

from torch import Tensor, nn

LEAST_GAIN = 1e-4
"""A held-out loss is lower when it is lower by this [nat]: rounding is no progress."""


class Patience:
    """Looks at the held-out loss once an epoch; without a limit it does nothing."""

    def __init__(self, epochs: int | None) -> None:
        self.epochs = epochs
        self.loss = math.inf
        """The lowest so far [nat]."""
        self.waited = 0
        """Epochs since."""
        self.weights: dict[str, Tensor] = {}

    @property
    def exhausted(self) -> bool:
        """Whether training should stop."""
        return self.epochs is not None and self.waited >= self.epochs

    def look(self, loss: float, model: nn.Module) -> None:
        """Take note of an epoch's end.

        Parameters
        ----------
        loss : float
            Held-out loss [nat].
        model : nn.Module
            Its weights are copied when they are the best.
        """
        if self.epochs is None:
            return
        self.waited += 1
        if loss < self.loss - LEAST_GAIN:
            self.loss, self.waited = loss, 0
            self.weights = {name: value.clone() for name, value in model.state_dict().items()}

    def settle(self, loss: float, model: nn.Module) -> float:
        """Put the best weights back where they are better than the last.

        Parameters
        ----------
        loss : float
            Held-out loss of the weights that the model has [nat].
        model : nn.Module
            To be given the best ones.

        Returns
        -------
        float
            Held-out loss of the weights that the model has then [nat].
        """
        if not self.weights or loss <= self.loss:
            return loss
        model.load_state_dict(self.weights)
        return self.loss

    def pack(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Tensors and JSON-able values for a checkpoint."""
        state = {"loss": self.loss, "waited": self.waited} if self.weights else {}
        return {f"best.{name}": value for name, value in self.weights.items()}, state

    def unpack(self, tensors: dict[str, Tensor], state: dict[str, Any]) -> None:
        """Inverse of `pack`."""
        self.loss, self.waited = state.get("loss", math.inf), state.get("waited", 0)
        self.weights = {
            name.removeprefix("best."): value for name, value in tensors.items() if name.startswith("best.")
        }
