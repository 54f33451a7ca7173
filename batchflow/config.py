"""The job file: TOML turned into frozen, validated settings.

Each field's description is its documentation; `Field(description=...)` says the unit. An unknown
key, a wrong type or an impossible range is a `UserError` naming key, value and what was expected.
"""

from __future__ import annotations

import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    Field,
    PositiveFloat,
    PositiveInt,
    SerializerFunctionWrapHandler,
    ValidationError,
    field_validator,
    model_serializer,
    model_validator,
)

from batchflow.catalogue_settings import CatalogueSettings
from batchflow.cigale_settings import CigaleSettings
from batchflow.cluster_settings import ClusterSettings
from batchflow.errors import UserError, nearest
from batchflow.fit_settings import FitSettings
from batchflow.overrides import apply_overrides
from batchflow.physics.bands import known_bands
from batchflow.prior_settings import NUISANCES, Distribution, PriorSettings
from batchflow.settings import Band, GridUse, Range, Settings

__all__ = [
    "CatalogueSettings",
    "ClusterSettings",
    "Distribution",
    "FitSettings",
    "Job",
    "ModelSettings",
    "PriorSettings",
    "Settings",
    "load_job",
    "parse_job",
]

STAGES = ("mocks", "train", "infer", "fit", "validate", "report")


Fraction = Annotated[float, Field(ge=0, lt=1)]
CurveName = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$")]


class ModelSettings(Settings):
    """[model]: from parameters to fluxes."""

    engine: Literal["embedded", "cigale"] = Field("embedded", description="what computes the fluxes")
    # Above `bands`, whose check reads it.
    curves: dict[CurveName, Path] = Field(
        {},
        description="throughput curves of one's own by band name, relative to the job file: two columns "
        "(wavelength [AA], electrons per photon) or a VOTable of the SVO Filter Profile Service",
    )
    bands: tuple[Band, ...] = Field(min_length=1, description="every band any catalogue of the job has")
    metallicity: float = Field(0.02, gt=0, le=0.1, description="metal mass fraction of stars and gas")
    extinction: str = Field(
        "CCM89", description="dust law: CCM89 as CIGALE has it, or another name of physics.dust"
    )
    rv: float = Field(3.1, ge=2.0, le=6.0, description="A(V) / E(B-V)")
    cigale: CigaleSettings = CigaleSettings()
    covering: float = Field(
        0.0, ge=0, le=1, description="share of the ionising light that gas turns into nebular emission"
    )
    log_u: float = Field(-2.5, ge=-4, le=0, description="log10 ionisation parameter of the gas")
    vary: dict[Literal["metallicity", "rv", "covering"], Range] = Field(
        {}, description="range of each parameter that is drawn, not set; a job fills it from [prior]"
    )

    @field_validator("bands")
    @classmethod
    def _distinct(cls, bands: tuple[str, ...]) -> tuple[str, ...]:
        if twice := {band for band in bands if bands.count(band) > 1}:
            raise ValueError(f"named twice: {', '.join(sorted(twice))}")
        return bands

    @field_validator("curves")
    @classmethod
    def _new_names(cls, curves: dict[str, Path]) -> dict[str, Path]:
        if taken := sorted(set(curves) & set(known_bands())):
            raise ValueError(f"{taken[0]!r} is a shipped band; give the curve another name")
        return curves

    @field_validator("vary")
    @classmethod
    def _ordered(cls, vary: dict[str, Range]) -> dict[str, Range]:
        for name, (low, high) in vary.items():
            if not low < high:
                raise ValueError(
                    f"{name} = [{low:g}, {high:g}] is empty; expected [low, high] with low < high"
                )
        return vary

    @model_serializer(mode="wrap")
    def _without_unused(self, dump: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Leave out options that are not used: a job without them keeps its fingerprint."""
        unused = {"curves": {}, "covering": 0.0, "vary": {}}
        found = {name: value for name, value in dump(self).items() if unused.get(name, ...) != value}
        if self.engine != "cigale":
            found.pop("cigale", None)
        if "covering" not in found and "covering" not in self.vary:
            found.pop("log_u", None)
        return found

    def __hash__(self) -> int:
        """Hash of the settings' JSON: mappings have none of their own."""
        return hash(self.model_dump_json())


class NoiseSettings(Settings):
    """[noise]: what the catalogues' errors do not say."""

    systematic: float = Field(
        0.05, ge=0, lt=1, description="fraction of the true flux added in quadrature to every error"
    )
    model_error: Fraction | dict[Band, Fraction] = Field(
        0.0,
        description="the same for the model's own error, one number or by band; independent between bands",
    )
    depth: Range | None = Field(
        None,
        description="log10 range of the 1-sigma depth [mJy], the same in all bands; "
        "for a job without catalogues",
    )
    fractional: float = Field(
        0.0,
        ge=0,
        lt=1,
        description="fraction of the flux that reported errors hold in quadrature; for a job without "
        "catalogues",
    )
    brightness: Range | None = Field(
        None,
        description="log10 range of the true flux over the depth, in the band where it is largest, that "
        "training covers; for a job without catalogues",
    )

    @model_validator(mode="after")
    def _whole(self) -> NoiseSettings:
        for name in ("fractional", "brightness"):
            if getattr(self, name) and self.depth is None:
                raise ValueError(f"{name} needs depth = [low, high]; catalogues tell their own")
        for name in ("depth", "brightness"):
            found = getattr(self, name)
            if found is not None and not found[0] < found[1]:
                raise ValueError(f"{name} = {list(found)} is empty; expected [low, high] with low < high")
        return self

    @model_serializer(mode="wrap")
    def _without_unused(self, dump: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Leave out what is not used: a job without it keeps its fingerprint."""
        unused = {"model_error": 0.0, "fractional": 0.0, "brightness": None}
        return {name: value for name, value in dump(self).items() if unused.get(name, ...) != value}


class MocksSettings(Settings):
    """[mocks]: the training set."""

    rows: PositiveInt = Field(500_000, description="mock clusters")
    rows_per_shard: int = Field(100_000, ge=100, description="mock clusters in one Parquet file")


class FlowSettings(Settings):
    """[flow]: the network."""

    kind: Literal["spline", "affine"] = Field("spline", description="shape of each coupling")
    couplings: int = Field(6, ge=1, description="coupling layers; each transforms one parameter")
    hidden: int = Field(128, ge=8, description="units of each hidden layer")
    bins: int = Field(16, ge=4, description="bins of each spline")
    encoder_layers: int = Field(3, ge=1, description="hidden layers of the encoder of the photometry")


class TrainSettings(Settings):
    """[train]: how the network is fitted."""

    epochs: PositiveInt = Field(10, description="passes over the mocks, each with fresh noise")
    batch: int = Field(
        1024, ge=16, description="mocks in a step; on processors, one core for each 512 of them"
    )
    learning_rate: PositiveFloat = Field(6e-3, description="peak of the one-cycle schedule")
    held_out: float = Field(0.02, gt=0, lt=0.5, description="share of each shard kept for validation")
    max_minutes: PositiveFloat | None = Field(None, description="stop after this time, whatever is left")
    checkpoint_seconds: PositiveFloat = Field(30.0, description="time between checkpoints")
    patience: PositiveInt | None = Field(
        None,
        description="stop after this many epochs in which the held-out loss did not fall, and keep the best "
        "weights; default: never",
    )
    members: int = Field(1, ge=1, le=64, description="networks trained apart, whose mixture is the proposal")

    @model_serializer(mode="wrap")
    def _without_unused(self, dump: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Leave out what is not used: a job without it keeps its fingerprint."""
        unused = {"patience": None, "members": 1}
        return {name: value for name, value in dump(self).items() if unused.get(name, ...) != value}


class InferSettings(Settings):
    """[infer]: posterior draws for the catalogue."""

    draws: PositiveInt = Field(500, description="posterior draws a cluster")
    rows_per_part: PositiveInt = Field(2000, description="clusters in one part file")
    certify: bool = Field(True, description="weight the draws to the exact posterior")
    min_efficiency: float = Field(
        0.05,
        ge=0,
        le=1,
        description="rescue clusters whose efficiency is below; flag those that stay below",
    )
    max_draws: PositiveInt = Field(
        4096, description="draws that a rescued cluster's summary is made from; `draws` of them are stored"
    )
    grid: GridUse = Field(
        "auto",
        description="exact grid posterior: never; where more draws do not suffice (fallback); for the mean, "
        "deviation and quantiles of every cluster besides (summary); or in place of the network's draws "
        "(always). auto: summary with three parameters, else fallback. "
        "A job with marginalised or more than four parameters has none",
    )


class ValidateSettings(Settings):
    """[validate]: calibration on held-out mocks."""

    mocks: PositiveInt = Field(2000, description="held-out mocks to infer")
    draws: PositiveInt = Field(500, description="draws for each")
    exact: int = Field(
        100, ge=0, description="held-out mocks whose posteriors are compared with draws of the exact one"
    )


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
        lines = [_explain(dict(item), values) for item in error.errors()]
        raise UserError(f"{source}: " + "\n  ".join(lines)) from None
    entries = tuple(entry.located(folder) for entry in job.catalogue)
    own = {name: (folder / path).resolve() for name, path in job.model.curves.items()}
    model = job.model.model_copy(update={"curves": own})
    cluster = job.cluster.located(folder)
    changes = {"catalogue": entries, "model": model, "cluster": cluster, "output": Path(job.output)}
    return job.model_copy(update=changes)


def _explain(item: dict[str, Any], values: dict[str, Any]) -> str:
    """Turn one error of pydantic into a line with key, value, expectation and nearest name."""
    location = [str(part) for part in item["loc"] if part != "[key]"]
    key = ".".join(location) or "the job"
    message = str(item["msg"]).removeprefix("Value error, ")
    if item["type"] == "missing":
        return f"{key} is missing; expected {_describe(location)}"
    if item["type"] == "extra_forbidden":
        return f"unknown key {key}; {nearest(location[-1], _keys(location[:-1]))}"
    shown = repr(item["input"])
    shown = shown if len(shown) <= 80 else shown[:77] + "..."
    return (
        f"{key} = {shown}: {message} ({_describe(location)})" if _describe(location) else f"{key}: {message}"
    )


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
