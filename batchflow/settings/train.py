"""Settings of the training set, of the network and of how it is fitted."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, PositiveFloat, PositiveInt, SerializerFunctionWrapHandler, model_serializer

from batchflow.settings.base import Settings, without_unused


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
        return without_unused(dump(self), {"patience": None, "members": 1})
