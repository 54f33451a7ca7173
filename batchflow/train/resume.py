"""Checkpoints of a training under way: weights, optimiser and place, as one or not at all.

The tensors are written first, under a name of their own; the JSON file that names them and holds
their checksum is replaced last, so a checkpoint is either the old one or the new one.
"""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import safetensors.torch
from torch import Tensor, nn
from torch.optim import Optimizer

from batchflow.errors import UserError
from batchflow.plan import check_settings
from batchflow.shards import write_bytes
from batchflow.stamped import read_stamped, write_stamped

STATE_FILE = "state.json"


class Checkpoint(NamedTuple):
    """A training as it stood after a step."""

    tensors: dict[str, Tensor]
    """Weights, optimiser state and running sums, by name."""
    state: dict[str, Any]
    """JSON-able: step, seconds, fingerprint."""


def write_checkpoint(folder: Path, checkpoint: Checkpoint) -> None:
    """Write a checkpoint in place of the one before.

    Parameters
    ----------
    folder : Path
        The checkpoint's folder, made when absent.
    checkpoint : Checkpoint
        Where training stands.
    """
    content = safetensors.torch.save({name: t.contiguous().cpu() for name, t in checkpoint.tensors.items()})
    name = f"step-{checkpoint.state['step']}.safetensors"
    write_bytes(folder / name, content)
    described = {**checkpoint.state, "tensors": name, "sha256": hashlib.sha256(content).hexdigest()}
    write_stamped(folder / STATE_FILE, described)
    for old in folder.glob("step-*.safetensors"):
        if old.name != name:
            old.unlink()


def read_checkpoint(
    folder: Path, fingerprint: str, settings: Mapping[str, Any] = MappingProxyType({})
) -> Checkpoint | None:
    """Read the last whole checkpoint.

    Parameters
    ----------
    folder : Path
        The checkpoint's folder.
    fingerprint : str
        Of the settings of the training that is to go on.
    settings : mapping, optional
        These settings, so that an error can name those that differ.

    Returns
    -------
    Checkpoint or None
        None when there is none, or it was cut short or altered: training then starts anew.

    Raises
    ------
    UserError
        When it belongs to a training with other settings.
    """
    state = read_stamped(folder / STATE_FILE)
    if state is None:
        return None
    try:
        content = (folder / Path(state["tensors"]).name).read_bytes()
    except (OSError, KeyError, TypeError):
        return None
    if hashlib.sha256(content).hexdigest() != state.get("sha256"):
        return None
    if state.get("fingerprint") != fingerprint:
        check_settings(folder / STATE_FILE, state.get("settings", {}), settings, "train")
        raise UserError(
            f"checkpoint {folder} belongs to a training with other settings (fingerprint "
            f"{state.get('fingerprint')!r}, now {fingerprint!r}); restore them, or start anew: --mode restart"
        )
    return Checkpoint(safetensors.torch.load(content), state)


def remove_checkpoint(folder: Path) -> None:
    """Remove a checkpoint that is no longer needed."""
    shutil.rmtree(folder, ignore_errors=True)


def pack(model: nn.Module, optimiser: Optimizer) -> dict[str, Tensor]:
    """Tensors of a model and its optimiser, by name."""
    tensors = {f"model.{name}": tensor for name, tensor in model.state_dict().items()}
    for index, slots in optimiser.state_dict()["state"].items():
        tensors |= {f"optimiser.{index}.{slot}": tensor for slot, tensor in slots.items()}
    return tensors


def unpack(tensors: dict[str, Tensor], model: nn.Module, optimiser: Optimizer) -> None:
    """Inverse of `pack`: load a model and its optimiser, in place."""
    weights = {name: tensors[f"model.{name}"] for name in model.state_dict()}
    model.load_state_dict(weights)
    slots: dict[int, dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        kind, _, rest = name.partition(".")
        if kind == "optimiser":
            index, _, slot = rest.partition(".")
            slots.setdefault(int(index), {})[slot] = tensor
    optimiser.load_state_dict(optimiser.state_dict() | {"state": slots})
