"""The model folder: weights as safetensors, everything else as JSON; safe to load from a stranger.

An ensemble's folder holds a model folder for each member, ``member-0`` and so on, and a JSON file that
names them with the checksums of their weights.
"""

from __future__ import annotations

import hashlib
import platform
import re
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import safetensors
import safetensors.torch
import torch
from pydantic import ValidationError

from batchflow.errors import UserError
from batchflow.flow.density import PosteriorDensity, Specification
from batchflow.flow.description import (
    CHECKSUM,
    FORMAT,
    MODEL_FILE,
    WEIGHTS_FILE,
    joint_checksum,
    load_description,
    write_description,
)
from batchflow.flow.network import PosteriorNetwork
from batchflow.mocks.noise import NoiseModel
from batchflow.settings.train import FlowSettings
from batchflow.shards import write_bytes

__all__ = ["PosteriorNetwork", "load_model", "new_network", "save_model"]

MEMBER = re.compile(r"member-\d+")
"""Names of members' folders; no other is followed."""
SHARED = ("bands", "parameters", "prior", "flow", "noise")
"""What all members of an ensemble have in common."""


def new_network(specification: Specification, seed: int) -> PosteriorNetwork:
    """A network before training, its weights drawn from a key.

    Parameters
    ----------
    specification : Specification
        What it is of.
    seed : int
        Of the weights.

    Returns
    -------
    PosteriorNetwork
        On the CPU.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return PosteriorNetwork(specification, PosteriorDensity(specification))


def save_model(folder: Path, network: PosteriorNetwork) -> None:
    """Write a model folder; the JSON file, last, makes it a model.

    Parameters
    ----------
    folder : Path
        Made when absent; a model in it is replaced.
    network : PosteriorNetwork
        Its `weights_sha256` is set.

    Raises
    ------
    UserError
        When the file system refuses.
    """
    tensors = {name: tensor.contiguous().cpu() for name, tensor in network.density.state_dict().items()}
    content = safetensors.torch.save(tensors)
    network.weights_sha256 = hashlib.sha256(content).hexdigest()
    write_bytes(folder / WEIGHTS_FILE, content)
    write_description(folder, _describe(network))


def load_model(folder: Path, device: str | torch.device = "cpu") -> PosteriorNetwork:
    """Read a model folder.

    Parameters
    ----------
    folder : Path
        As `save_model` wrote it.
    device : str or torch.device
        Where to put the weights.

    Returns
    -------
    PosteriorNetwork
        Gives the draws of the one saved, for the same random numbers.

    Raises
    ------
    UserError
        When a file is absent, cut short, altered, or does not fit the other.
    """
    folder = Path(folder)
    values = load_description(folder)
    if "members" in values:
        return _load_ensemble(folder, values, device)
    return _load_single(folder, values, device)


def _load_single(folder: Path, values: dict[str, Any], device: str | torch.device) -> PosteriorNetwork:
    checksum = str(values.get("weights_sha256"))
    content = _read_weights(folder / WEIGHTS_FILE, checksum)
    try:
        specification = _specification(values)
        density = PosteriorDensity(specification)
        density.load_state_dict(safetensors.torch.load(content))
    except _MISFITS as error:
        raise UserError(
            f"{folder}: {MODEL_FILE} and {WEIGHTS_FILE} do not fit: {error}; train again"
        ) from None
    density.requires_grad_(False).to(device)
    return PosteriorNetwork(specification, density, _foreign(values), checksum)


def _load_ensemble(folder: Path, values: dict[str, Any], device: str | torch.device) -> PosteriorNetwork:
    entries = values["members"]
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise UserError(f"{folder / MODEL_FILE}: members = {entries!r} is no list of members; train again")
    found = [_load_member(folder, values, entry, device) for entry in entries]
    checksum = joint_checksum([member.weights_sha256 for member in found])
    if not found or checksum != values.get("weights_sha256"):
        raise UserError(f"{folder}: {MODEL_FILE} and the members' weights do not fit; train again")
    others = tuple(member.density for member in found[1:])
    return PosteriorNetwork(found[0].specification, found[0].density, _foreign(values), checksum, others)


def _load_member(
    folder: Path, values: dict[str, Any], entry: dict[str, Any], device: str | torch.device
) -> PosteriorNetwork:
    name = str(entry.get("folder"))
    if not MEMBER.fullmatch(name):
        raise UserError(f"{folder / MODEL_FILE}: member {name!r} is no folder of an ensemble; train again")
    own = load_description(folder / name)
    wrong = [key for key in SHARED if own.get(key) != values.get(key)]
    if wrong or own.get("weights_sha256") != entry.get("weights_sha256"):
        raise UserError(
            f"{folder / name} is not the member that {MODEL_FILE} names "
            f"(other {', '.join(wrong) or 'weights'}); train again or copy the folder anew"
        )
    return _load_single(folder / name, own, device)


def _foreign(values: dict[str, Any]) -> dict[str, Any]:
    """What the description holds beside the network's own."""
    return {name: value for name, value in values.items() if name not in _OWN}


_MISFITS = (
    *(LookupError, TypeError, ValueError, AttributeError, ArithmeticError, RuntimeError),
    *(ValidationError, safetensors.SafetensorError),
)
_OWN = (*SHARED, "format", "versions", "weights_sha256", CHECKSUM)


def _describe(network: PosteriorNetwork) -> dict[str, Any]:
    specification = network.specification
    versions = {
        "batchflow": version("batchflow"),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "numpy": np.__version__,
    }
    return network.description | {
        "format": FORMAT,
        "bands": list(specification.bands),
        "parameters": list(specification.parameters),
        "prior": {name: list(box) for name, box in specification.boxes.items()},
        "flow": specification.flow.model_dump(mode="json"),
        "noise": specification.noise.to_dict(),
        "versions": versions,
        "weights_sha256": network.weights_sha256,
    }


def _specification(values: dict[str, Any]) -> Specification:
    boxes = {name: (float(low), float(high)) for name, (low, high) in values["prior"].items()}
    return Specification(
        bands=tuple(values["bands"]),
        boxes={name: boxes[name] for name in values["parameters"]},
        flow=FlowSettings.model_validate(values["flow"]),
        noise=NoiseModel.from_dict(values["noise"]),
    )


def _read_weights(path: Path, checksum: str) -> bytes:
    try:
        content = path.read_bytes()
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}; train again") from None
    found = hashlib.sha256(content).hexdigest()
    if found != checksum:
        raise UserError(
            f"{path}: its SHA-256 is {found}, {MODEL_FILE} expects {checksum}: it was cut short, altered "
            "or belongs to another model; train again or copy the folder anew"
        )
    return content
