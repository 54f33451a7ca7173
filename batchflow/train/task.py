"""Training as the task of one worker: from files to a model folder."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from batchflow.catalogue.files import checksum
from batchflow.catalogue.index import surveys_of_entries
from batchflow.config import Job
from batchflow.flow.density import MASS
from batchflow.flow.description import HISTORY, HISTORY_FILE
from batchflow.flow.network import Specification
from batchflow.infer.reference import make_reference, save_reference
from batchflow.keys import key
from batchflow.machine import cores
from batchflow.mocks.coverage import noise_figures
from batchflow.mocks.estimate import estimate_noise, explicit_noise
from batchflow.mocks.flux_table import open_table
from batchflow.mocks.noise import NoiseModel
from batchflow.mocks.prior import median
from batchflow.mocks.survey_sample import CatalogueParts
from batchflow.mocks.unreported import unreported_errors
from batchflow.paths import RunFolder
from batchflow.physics.engine import open_engine
from batchflow.physics.table import TABLE_FILE, FluxTable
from batchflow.physics.torch_table import TorchFluxTable
from batchflow.plan import fingerprint, flatten
from batchflow.settings.prior import PriorSettings
from batchflow.stages import from_resolved
from batchflow.threads import threads
from batchflow.train.data import open_shards
from batchflow.train.fit import Training, TrainingProgress, train
from batchflow.train.history import Record, write_history
from batchflow.train.plan import BESIDE, is_trained, member_name, read_description
from batchflow.workers.watch import alive

Report = Callable[[dict[str, Any]], None]


def train_model(
    job: dict[str, Any],
    folder: str,
    inputs: dict[str, list[str]],
    settings: dict[str, Any],
    report: Report,
    place: dict[str, int],
) -> dict[str, float]:
    """Train the model of a job, or a member of its ensemble, and write its folder.

    Parameters
    ----------
    job : dict
        As `stages.resolved` gives it.
    folder : str
        The model folder.
    inputs : dict
        Paths of the ``shards`` and of the ``catalogue`` parts.
    settings : dict
        As `stages.train_settings` gives them; kept in the model.
    report : callable
        Told how training stands, a few times a second at most.
    place : dict
        ``member``: which one, from 0; ``sharing``: how many trainings this machine has at once.

    Returns
    -------
    dict of str to float
        Figures of the training.
    """
    found = from_resolved(job, "job")
    device = "cuda" if torch.cuda.is_available() else "cpu"
    own = Path(folder) / member_name(place["member"]) if found.train.members > 1 else Path(folder)
    # A nanny allows its worker one thread; trainings share the machine's cores among themselves.
    with threads(cores() // place["sharing"]):
        table = open_table(found, RunFolder(Path(folder).parent))
        table.save(Path(folder) / TABLE_FILE)
        training = make_training(found, table, inputs, settings, place["member"])
        training.description["flux_table_sha256"] = checksum(Path(folder) / TABLE_FILE)
        tell_coverage(training, inputs["catalogue"], report)
        reference = make_reference(training.shards, training.specification.noise, found.seed)
        training.description["reference_sha256"] = checksum(save_reference(Path(folder), reference))
        if (figures := _trained_before(own, training, settings)) is not None:
            return figures
        return train(training, own, device, _sparingly(report)) | {"cuda": float(device == "cuda")}


def _trained_before(own: Path, training: Training, settings: dict[str, Any]) -> dict[str, float] | None:
    """Figures of the network that is there, where only what is beside it had to be made again."""
    described = read_description(own) if is_trained(own, settings) else None
    if described is None or any(described.get(key) != training.description[key] for key in BESIDE.values()):
        return None
    if HISTORY in described:
        write_history(own / HISTORY_FILE, [Record(*values) for values in described[HISTORY]])
    return dict(described["training"])


def make_training(
    job: Job, table: FluxTable, inputs: dict[str, list[str]], settings: dict[str, Any], member: int = 0
) -> Training:
    """Everything that decides what comes out of a training.

    Parameters
    ----------
    job : Job
        The job.
    table : FluxTable
        What its mocks were interpolated in.
    inputs : dict
        Paths of the ``shards`` and of the ``catalogue`` parts.
    settings : dict
        As `stages.train_settings` gives them.
    member : int
        Of an ensemble; member 0 is the network that a job without an ensemble trains.

    Returns
    -------
    Training
        For `train.fit.train`.
    """
    bands = job.model.bands
    specification = Specification(bands, job.prior.boxes(), job.flow, make_noise(job, inputs["catalogue"]))
    paths = [Path(path) for path in inputs["shards"]]
    shards = open_shards(paths, bands, job.train.held_out, specification.parameters)
    description = {
        "settings": flatten(settings),
        "prior_settings": job.prior.model_dump(mode="json"),
        "engine": open_engine(job.model).describe(),
    }
    seed = key(job.seed, "member", member) if member else job.seed
    fluxes = model_fluxes(table, job.prior)
    return Training(specification, shards, fluxes, job.train, seed, fingerprint(settings), description)


def model_fluxes(table: FluxTable, prior: PriorSettings) -> TorchFluxTable:
    """Fluxes of a model over the parameters of its posterior, marginalised ones at their middle.

    Parameters
    ----------
    table : FluxTable
        Of the engine.
    prior : PriorSettings
        Of every parameter.

    Returns
    -------
    TorchFluxTable
        Its axes are in the order of the posterior's parameters.
    """
    others = [name for name in prior.boxes() if name != MASS]
    middle = {name: median(shape) for name, shape in prior.marginalised().items()}
    return TorchFluxTable.from_table(table, torch.device("cpu"), others, middle)


def make_noise(job: Job, parts: list[str]) -> NoiseModel:
    """The noise of the job's catalogues, or the one that the job gives.

    Parameters
    ----------
    job : Job
        With catalogues or with ``noise.depth``.
    parts : list of str
        Parts of the normalised catalogue.

    Returns
    -------
    NoiseModel
        One survey each.
    """
    unreported = unreported_errors(job, surveys_of_entries(parts))
    noise = job.noise
    if noise.depth is not None:
        return explicit_noise(job.model.bands, noise.depth, unreported, noise.fractional, noise.brightness)
    return estimate_noise(CatalogueParts(parts, job.model.bands), job.model.bands, unreported)


def tell_coverage(training: Training, parts: list[str], report: Report) -> None:
    """Report, and note in the model's description, which share of each survey training covers.

    Parameters
    ----------
    training : Training
        About to start.
    parts : list of str
        Parts of the normalised catalogue.
    report : callable
        Told a line a survey.
    """
    noise = training.specification.noise
    figures = noise_figures(noise, CatalogueParts(parts, noise.bands)) if parts else []
    training.description["coverage"] = [
        {"survey": found.survey, "clusters": found.n_rows, "outside": found.n_outside} for found in figures
    ]
    report({"fraction": 0.0, "lines": [found.line() for found in figures]})


def _sparingly(report: Report) -> Callable[[TrainingProgress], None]:
    """Pass on whole percents and new records only."""
    last: tuple[int, Any] = (-1, None)

    def tell(progress: TrainingProgress) -> None:
        nonlocal last
        alive()
        now = (int(100 * progress.fraction), progress.record)
        if now != last:
            last = now
            record = progress.record._asdict() if progress.record else {}
            report(
                {
                    "step": progress.step,
                    "total": progress.total_steps,
                    "fraction": progress.fraction,
                    **record,
                }
            )

    return tell
