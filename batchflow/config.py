"""The job file: TOML turned into frozen, validated settings, whose sections are in `batchflow.settings`.

Each field's description is its documentation; `Field(description=...)` says the unit. An unknown
key, a wrong type or an impossible range is a `UserError` naming key, value and what was expected.
"""

from __future__ import annotations

import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pydantic import Field, ValidationError, model_validator

from batchflow.errors import UserError, nearest
from batchflow.settings.base import Settings
from batchflow.settings.catalogue import CatalogueSettings
from batchflow.settings.cluster import ClusterSettings
from batchflow.settings.fit import FitSettings
from batchflow.settings.infer import InferSettings, ValidateSettings
from batchflow.settings.model import ModelSettings
from batchflow.settings.noise import NoiseSettings
from batchflow.settings.overrides import apply_overrides
from batchflow.settings.prior import NUISANCES, Distribution, PriorSettings
from batchflow.settings.train import FlowSettings, MocksSettings, TrainSettings

__all__ = [
    "CatalogueSettings",
    "ClusterSettings",
    "Distribution",
    "FitSettings",
    "FlowSettings",
    "InferSettings",
    "Job",
    "MocksSettings",
    "ModelSettings",
    "NoiseSettings",
    "PriorSettings",
    "Settings",
    "TrainSettings",
    "ValidateSettings",
    "load_job",
    "parse_job",
]

STAGES = ("mocks", "train", "infer", "fit", "validate", "report")


class Job(Settings):
    """A whole job."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", description="name of the run")
    output: Path = Field(description="the run folder, relative to the working directory")
    seed: int = Field(0, ge=0, lt=2**63, description="of every random draw")
    cluster: ClusterSettings = ClusterSettings()
    model: ModelSettings
    prior: PriorSettings = PriorSettings()
    noise: NoiseSettings = NoiseSettings()
    mocks: MocksSettings = MocksSettings()
    flow: FlowSettings = FlowSettings()
    train: TrainSettings = TrainSettings()
    catalogue: tuple[CatalogueSettings, ...] = ()
    infer: InferSettings = InferSettings()
    fit: FitSettings = FitSettings()
    validate_: ValidateSettings = Field(ValidateSettings(), alias="validate")

    @property
    def stages(self) -> tuple[str, ...]:
        """Stages that a run of the job has, in order."""
        return tuple(name for name in STAGES if name != "fit" or self.fit.enabled)

    @model_validator(mode="after")
    def _drawn_parameters(self) -> Job:
        """Tell the model which of its parameters the prior draws or fixes."""
        given = {name: found for name in NUISANCES if (found := getattr(self.prior, name)) is not None}
        fixed = {name: found.box[0] for name, found in given.items() if found.box[0] == found.box[1]}
        vary = {name: found.box for name, found in given.items() if name not in fixed}
        if self.model.vary and self.model.vary != vary:
            raise ValueError(f"model.vary = {self.model.vary} is not what [prior] draws; leave it out")
        if given:
            model = ModelSettings.model_validate(dict(self.model) | fixed | {"vary": vary})
            object.__setattr__(self, "model", model)
        return self

    @model_validator(mode="after")
    def _surveys(self) -> Job:
        names = [entry.survey for entry in self.catalogue]
        if twice := {name for name in names if names.count(name) > 1}:
            raise ValueError(f"two catalogues are called {min(twice)!r}; give each a name of its own")
        return self


def load_job(path: str | Path, overrides: Sequence[str] = ()) -> Job:
    """Read a job file.

    Parameters
    ----------
    path : str or Path
        The TOML file.
    overrides : sequence of str
        ``section.key=value`` settings that win over the file's.

    Returns
    -------
    Job
        Validated; input paths absolute, `output` relative to the working directory.

    Raises
    ------
    UserError
        When the file cannot be read or a setting is wrong.
    """
    path = Path(path)
    if path.is_dir():
        raise UserError(f"job file {path} is a folder; give the TOML file itself")
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"job file {path} does not exist") from None
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"job file {path} cannot be read: {error}") from None
    except tomllib.TOMLDecodeError as error:
        raise UserError(f"job file {path} is not TOML: {error}") from None
    apply_overrides(values, overrides)
    return parse_job(values, source=str(path), folder=path.resolve().parent)


def parse_job(values: dict[str, Any], source: str, folder: Path) -> Job:
    """Validate the settings of a job.

    Parameters
    ----------
    values : dict
        As TOML gives them.
    source : str
        Where they come from, for messages.
    folder : Path
        What input paths are relative to.

    Returns
    -------
    Job
        The validated job.

    Raises
    ------
    UserError
        Naming every wrong key.
    """
    model = values.get("model")
    curves = model.get("curves") if isinstance(model, dict) else None
    try:
        job = Job.model_validate(values, context={"curves": tuple(curves or ())})
    except ValidationError as error:
        lines = [_explain(dict(item)) for item in error.errors()]
        raise UserError(f"{source}: " + "\n  ".join(lines)) from None
    entries = tuple(entry.located(folder) for entry in job.catalogue)
    own = {name: (folder / path).resolve() for name, path in job.model.curves.items()}
    model = job.model.model_copy(update={"curves": own})
    cluster = job.cluster.located(folder)
    changes = {"catalogue": entries, "model": model, "cluster": cluster}
    return job.model_copy(update=changes)


def _explain(item: dict[str, Any]) -> str:
    """Turn one error of pydantic into a line with key, value, expectation and nearest name."""
    location = [str(part) for part in item["loc"] if part != "[key]"]
    key = ".".join(location) or "the job"
    message = str(item["msg"]).removeprefix("Value error, ")
    if item["type"] == "missing":
        return f"{key} is missing; expected {_describe(location)}"
    if item["type"] == "extra_forbidden":
        return f"unknown key {key}; {nearest(location[-1], _keys(location[:-1]))}"
    if isinstance(item["input"], dict) and not _describe(location):
        return f"{key}: {message}"  # a rule between several keys, which names them
    shown = repr(item["input"])
    shown = shown if len(shown) <= 80 else shown[:77] + "..."
    meaning = f" ({_describe(location)})" if _describe(location) else ""
    return f"{key} = {shown}: {message}{meaning}"


def _section(location: Sequence[str]) -> type[Settings] | None:
    """The settings class at a place in the job, if it is one."""
    found: type[Settings] = Job
    for part in location:
        if part.isdigit():
            continue
        fields = {(info.alias or name): info for name, info in found.model_fields.items()}
        if part not in fields:
            return None
        inner = _settings_class(fields[part].annotation)
        if inner is None:
            return None
        found = inner
    return found


def _settings_class(annotation: Any) -> type[Settings] | None:
    if isinstance(annotation, type) and issubclass(annotation, Settings):
        return annotation
    for argument in getattr(annotation, "__args__", ()):
        if found := _settings_class(argument):
            return found
    return None


def _keys(location: Sequence[str]) -> list[str]:
    section = _section(location)
    return [info.alias or name for name, info in section.model_fields.items()] if section else []


def _describe(location: Sequence[str]) -> str:
    section = _section(location[:-1]) if location else None
    for name, info in (section.model_fields if section else {}).items():
        if (info.alias or name) == location[-1]:
            return info.description or ""
    return ""
