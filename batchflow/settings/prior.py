"""The section [prior]: each parameter's name, shape, and whether it is inferred."""

from __future__ import annotations

from typing import Any

from pydantic import Field, SerializerFunctionWrapHandler, model_serializer, model_validator

from batchflow.settings.base import Range, Settings

SHAPES = ("uniform", "normal", "truncated_normal", "power_law", "choice", "fixed")
NUISANCES = ("metallicity", "rv", "covering")
"""Parameters that a job may draw beside age, mass and reddening."""
NORMAL_REACH = 5.0
"""Standard deviations within which a normal prior is drawn: 6e-7 of it lies beyond."""


class Distribution(Settings):
    """A prior: exactly one shape, and whether the parameter is inferred."""

    uniform: Range | None = Field(None, description="lower and upper edge of a flat prior")
    normal: Range | None = Field(
        None, description="mean and standard deviation; drawn within 5 standard deviations"
    )
    truncated_normal: tuple[float, float, float, float] | None = Field(
        None, description="mean, standard deviation, lower and upper edge"
    )
    power_law: tuple[float, float, float] | None = Field(
        None,
        description="slope g, lower and upper edge of log10 x: dN/dx ~ x^g, where x is the mass or the age",
    )
    choice: tuple[float, ...] | None = Field(
        None, min_length=1, description="equally probable values; marginalised, not inferred"
    )
    fixed: float | None = Field(None, description="the one value it has; not inferred")
    marginalise: bool = Field(
        False, description="draw it in the mocks, but do not make it a parameter of the posterior"
    )

    @model_validator(mode="after")
    def _one_shape(self) -> Distribution:
        given = [name for name in SHAPES if getattr(self, name) is not None]
        if len(given) != 1:
            raise ValueError(
                f"{' and '.join(given) or 'no shape'} given; expected one of {', '.join(SHAPES)}"
            )
        self._check(given[0])
        return self

    @property
    def shape(self) -> str:
        """Name of the shape."""
        return next(name for name in SHAPES if getattr(self, name) is not None)

    @property
    def box(self) -> Range:
        """Lower and upper edge of what can be drawn."""
        if self.normal is not None:
            mean, sigma = self.normal
            return mean - NORMAL_REACH * sigma, mean + NORMAL_REACH * sigma
        if self.choice is not None:
            return min(self.choice), max(self.choice)
        if self.fixed is not None:
            return self.fixed, self.fixed
        low, high = getattr(self, self.shape)[-2:]
        return low, high

    @property
    def inferred(self) -> bool:
        """Whether it is a parameter of the posterior."""
        return not self.marginalise and self.shape not in ("choice", "fixed")

    @property
    def words(self) -> str:
        """The shape as a person says it."""
        value = getattr(self, self.shape)
        numbers = [f"{number:g}" for number in (value if isinstance(value, tuple) else (value,))]
        forms = {
            "uniform": "uniform {} to {}",
            "normal": "normal {} +- {}",
            "truncated_normal": "normal {} +- {} from {} to {}",
            "power_law": "power law of slope {} from {} to {}",
            "fixed": "{}",
        }
        if self.shape == "choice":
            return " or ".join(numbers)
        return forms[self.shape].format(*numbers)

    def _check(self, shape: str) -> None:
        value = getattr(self, shape)
        spread = {"normal": 1, "truncated_normal": 1}.get(shape)
        if spread and value[spread] <= 0:
            raise ValueError(f"{shape} = {list(value)}: the standard deviation must be positive")
        if shape == "choice" and len(set(value)) < len(value):
            raise ValueError(f"choice = {list(value)} names a value twice")
        low, high = self.box
        if shape not in ("choice", "fixed") and not low < high:
            raise ValueError(f"{shape} = {list(value)} is empty; expected low < high, its last two numbers")
        if self.truncated_normal is not None:
            mean, sigma = self.truncated_normal[:2]
            if low > mean + NORMAL_REACH * sigma or high < mean - NORMAL_REACH * sigma:
                raise ValueError(
                    f"{shape} = {list(value)} keeps nothing within {NORMAL_REACH:g} standard deviations"
                )

    @model_serializer(mode="wrap")
    def _given_alone(self, dump: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """The shape alone, so that a flat prior looks as it always did."""
        kept = {name: value for name, value in dump(self).items() if value is not None}
        return kept if self.marginalise else {k: v for k, v in kept.items() if k != "marginalise"}


class PriorSettings(Settings):
    """[prior]: what is believed of a cluster before it is seen."""

    log_age: Distribution = Field(Distribution(uniform=(6.0, 10.14)), description="log10 age [yr]")
    log_mass: Distribution = Field(
        Distribution(uniform=(2.0, 8.0)),
        description="log10 mass of stars formed [Msun]; the flow learns under a flat one, and another shape "
        "enters as a weight of the draws",
    )
    ebv: Distribution = Field(Distribution(uniform=(0.0, 1.5)), description="E(B-V) [mag]")
    metallicity: Distribution | None = Field(None, description="metal mass fraction of stars and gas")
    rv: Distribution | None = Field(None, description="A(V) / E(B-V)")
    covering: Distribution | None = Field(
        None, description="share of the ionising light that gas turns into nebular emission, 0 to 1"
    )

    @model_validator(mode="after")
    def _allowed(self) -> PriorSettings:
        for name in ("log_age", "log_mass", "ebv"):
            if not getattr(self, name).inferred:
                raise ValueError(
                    f"{name} is always inferred: give it uniform, normal, truncated_normal or power_law, "
                    "without marginalise"
                )
        for name, found in self.distributions().items():
            if found.shape == "power_law" and name not in ("log_age", "log_mass"):
                raise ValueError(f"{name} = {{power_law = ...}}: a power law is for log_mass and log_age")
        return self

    def distributions(self) -> dict[str, Distribution]:
        """The prior of each parameter that the mocks draw, in the order of the columns."""
        given = {name: getattr(self, name) for name in type(self).model_fields}
        return {
            name: found for name, found in given.items() if found is not None and found.box[0] < found.box[1]
        }

    def boxes(self) -> dict[str, Range]:
        """Lower and upper edge of each inferred parameter, in the order of the columns."""
        return {name: found.box for name, found in self.distributions().items() if found.inferred}

    def ranges(self) -> dict[str, Range]:
        """Lower and upper edge of each parameter that the mocks draw, inferred or marginalised."""
        return {name: found.box for name, found in self.distributions().items()}

    def marginalised(self) -> dict[str, Distribution]:
        """The prior of each parameter that is drawn but is not one of the posterior."""
        return {name: found for name, found in self.distributions().items() if not found.inferred}

    @model_serializer(mode="wrap")
    def _named_alone(self, dump: SerializerFunctionWrapHandler) -> dict[str, Any]:
        return {name: value for name, value in dump(self).items() if value is not None}
