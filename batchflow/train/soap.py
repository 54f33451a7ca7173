"""SOAP: Adam in the eigenbasis of Shampoo's preconditioner (Vyas et al. 2024, arXiv:2409.11321).

A small network with a few thousand steps to go is held back by how it is optimised before it is by what it
could represent: `docs/method.md` says what this gains over AdamW.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

BETAS = (0.95, 0.95)
"""Memory of the mean gradient, and of its squares, in every direction and pair of directions."""
REFRESH_STEPS = 10
"""Steps between two looks at the eigenbasis, which turns slowly."""
LARGEST_SIDE = 512
"""A longer side of a matrix of weights has no basis of its own."""
WEIGHT_DECAY = 0.01
"""Share of a weight that a step of rate one takes away."""
TINY = 1e-8


class Soap(Optimizer):
    """Adam's step, taken along directions in which the gradient's components vary independently."""

    def __init__(self, weights: Iterable[nn.Parameter], rate: float) -> None:
        super().__init__(weights, {"lr": rate})

    @torch.no_grad()
    def step(self) -> None:  # type: ignore[override]  # nobody hands it a closure
        """Move every weight by its gradient."""
        for group in self.param_groups:
            for weight in group["params"]:
                self._move(weight, weight.grad, group["lr"])

    def _move(self, weight: Tensor, slope: Tensor, rate: float) -> None:
        state = self.state[weight]
        if not state:
            state |= _beginning(slope)
        state["step"] += 1
        steps = int(state["step"])
        for side, spread in _spreads(slope).items():
            state[side].lerp_(spread, 1 - BETAS[1])
        mean = state["mean"].lerp_(slope, 1 - BETAS[0])
        turned = _turned(slope, state)
        square = state["square"].mul_(BETAS[1]).addcmul_(turned, turned, value=1 - BETAS[1])
        size = (square / (1 - BETAS[1] ** steps)).sqrt_().add_(TINY)
        direction = _turned_back(_turned(mean, state).div_(size), state)
        weight.mul_(1 - WEIGHT_DECAY * rate).sub_(direction, alpha=rate / (1 - BETAS[0] ** steps))
        if steps % REFRESH_STEPS == 0:
            _refresh(state)


def _beginning(slope: Tensor) -> dict[str, Tensor]:
    state = {"step": torch.zeros(()), "mean": torch.zeros_like(slope), "square": torch.zeros_like(slope)}
    for side, spread in _spreads(slope).items():
        state |= {side: torch.zeros_like(spread), f"{side}_basis": torch.eye(len(spread)).to(spread)}
    return state


def _spreads(slope: Tensor) -> dict[str, Tensor]:
    """Products of the gradient's components, summed over the other side of a matrix."""
    if slope.dim() != 2:
        return {}
    found = {"left": (slope, slope.T), "right": (slope.T, slope)}
    return {side: one @ other for side, (one, other) in found.items() if len(one) <= LARGEST_SIDE}


def _turned(values: Tensor, state: dict[str, Tensor]) -> Tensor:
    """Components in the eigenbasis of each side that has one; a copy."""
    found = state["left_basis"].T @ values if "left" in state else values.clone()
    return found @ state["right_basis"] if "right" in state else found


def _turned_back(values: Tensor, state: dict[str, Tensor]) -> Tensor:
    """Inverse of `_turned`."""
    found = state["left_basis"] @ values if "left" in state else values
    return found @ state["right_basis"].T if "right" in state else found


def _refresh(state: dict[str, Tensor]) -> None:
    """Follow the eigenbases by a step of the power iteration: the old one is nearly the new one."""
    for side in ("left", "right"):
        if side in state:
            basis = state[f"{side}_basis"]
            basis.copy_(torch.linalg.qr(state[side] @ basis).Q)
