"""The model folder: weights as safetensors, everything else as JSON; safe to load from a stranger."""

from __future__ import annotations

import hashlib
import json
import platform
from pathlib import Path
from typing import Any

import numpy as np
import safetensors
import safetensors.torch
import torch
from pydantic import ValidationError

from batchflow.config import FlowSettings
from batchflow.errors import UserError
from batchflow.flow.density import PosteriorDensity, Specification
from batchflow.flow.network import PosteriorNetwork
from batchflow.mocks.noise import NoiseModel
from batchflow.shards import write_bytes, write_json

__all__ = ["PosteriorNetwork", "load_model", "new_network", "save_model"]

FORMAT = "batchflow model 1"
WEIGHTS_FILE, MODEL_FILE = "weights.safetensors", "model.json"


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
    write_json(folder / MODEL_FILE, _describe(network))


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
    values = _read_description(folder / MODEL_FILE)
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
    described = {name: value for name, value in values.items() if name not in _OWN}
    return PosteriorNetwork(specification, density, described, checksum)


_MISFITS = (KeyError, TypeError, ValueError, RuntimeError, ValidationError, safetensors.SafetensorError)
_OWN = ("format", "bands", "parameters", "prior", "flow", "noise", "versions", "weights_sha256")


def _describe(network: PosteriorNetwork) -> dict[str, Any]:
    specification = network.specification
    versions = {"python": platform.python_version(), "torch": torch.__version__, "numpy": np.__version__}
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


def _read_description(path: Path) -> dict[str, Any]:
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"{path} does not exist: no trained model here; run batchflow train JOB") from None
    except (OSError, ValueError) as error:
        raise UserError(f"{path} cannot be read: {error}; train again") from None
    found = values.get("format") if isinstance(values, dict) else None
    if found != FORMAT:
        raise UserError(f"{path}: format is {found!r}, expected {FORMAT!r}; train again with this version")
    return dict(values)


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
