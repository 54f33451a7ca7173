"""The flux table that CIGALE computes: pieces, assembly, and how well it interpolates."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from batchflow.errors import UserError
from batchflow.physics.cigale_engine import CigaleEngine
from batchflow.physics.cigale_table import (
    TableEngine,
    assemble_table,
    certify_table,
    compute_rows,
    interpolation_error,
    open_cigale,
    table_nodes,
)
from batchflow.physics.engine import open_engine
from batchflow.physics.table import FluxTable
from batchflow.settings.model import ModelSettings

BANDS = ("wfc3_f275w", "acs_f814w")
NODES = {"log_age": (6.0, 8.0, 12), "ebv": (0.0, 1.0, 9)}


def settings(nodes: dict[str, Any] = NODES, **more: Any) -> ModelSettings:
    return ModelSettings.model_validate(
        {"engine": "cigale", "bands": BANDS, "cigale": {"evaluate": "table", "nodes": nodes, **more}}
    )


def rng() -> np.random.Generator:
    return np.random.default_rng(5)


def whole(model: ModelSettings) -> tuple[CigaleEngine, FluxTable]:
    engine = open_cigale(model)
    nodes = table_nodes(engine)
    size = int(np.prod([axis.size for axis in nodes]))
    return engine, assemble_table(engine, nodes, compute_rows(model, 0, size))


def test_nodes_are_cigales_own_ages(any_cigale: str) -> None:
    engine = open_cigale(settings())
    ages, ebv = table_nodes(engine)
    assert np.isin(ages, engine.steps["log_age"].values).all()
    assert ages[0] == engine.limits["log_age"][0] >= 6.0
    assert ages[-1] == engine.limits["log_age"][1] <= 8.0
    np.testing.assert_allclose(ebv, np.linspace(0, 1, 9))
    assert (np.diff(ages) > 0).all()


def test_pieces_make_the_whole(any_cigale: str) -> None:
    model = settings({"log_age": (6.0, 7.0, 4), "ebv": (0.0, 1.0, 5)})
    size = int(np.prod([axis.size for axis in table_nodes(open_cigale(model))]))
    pieces = [compute_rows(model, start, min(start + 7, size)) for start in range(0, size, 7)]
    np.testing.assert_array_equal(np.concatenate(pieces), compute_rows(model, 0, size))


def test_the_table_is_cigale_at_its_nodes(any_cigale: str) -> None:
    engine, table = whole(settings())
    ages, ebv = (axis[[0, 2, -1]] for axis in table.nodes)
    direct = engine.direct({"log_age": ages, "ebv": ebv})
    np.testing.assert_allclose(table.fluxes({"log_age": ages, "ebv": ebv}), direct[:, :-1], rtol=1e-9)
    np.testing.assert_allclose(table.surviving(ages), direct[:, -1], rtol=1e-9)
    assert table.notes["engine"]["pcigale"]["version"]


def test_by_default_every_age_of_the_grid_is_a_node(new_cigale: str) -> None:
    engine = open_cigale(settings({}))
    ages, ebv = table_nodes(engine)
    np.testing.assert_array_equal(ages, engine.steps["log_age"].values)
    assert (ebv[0], ebv[-1], ebv.size) == (0.0, 2.0, 51)


def test_default_nodes_of_the_galaxy_chain_interpolate_well(old_cigale: str) -> None:
    engine, table = whole(settings({"ebv": (0.0, 0.4, 11)}))
    certified = certify_table(engine, table, 300, rng())
    assert certified.notes["interpolation_error_mag"] < 0.002
    assert certified.notes["interpolation_points"] == 300


def test_the_error_is_that_of_ages_between_nodes(old_cigale: str) -> None:
    engine, table = whole(settings({"log_age": (6.0, 8.0, 6), "ebv": (0.0, 1.0, 51)}))
    ages = engine.steps["log_age"].within(6.0, 8.0).values
    at = {"log_age": ages, "ebv": np.full(ages.size, 0.5)}
    worst = np.abs(2.5 * np.log10(table.fluxes(at) / engine.direct(at)[:, :-1])).max()
    found = interpolation_error(engine, table, 2000, rng())
    assert 0.002 < found < 1.2 * worst
    assert found > 0.5 * worst


def test_a_coarse_table_is_refused(any_cigale: str) -> None:
    engine, table = whole(settings({"log_age": (6.0, 8.0, 3), "ebv": (0.0, 2.0, 2)}))
    with pytest.raises(UserError, match=r"errs by .* mag between its nodes.*give more in model.cigale.nodes"):
        certify_table(engine, table, 100, rng())


def test_a_flux_of_zero_is_refused(new_cigale: str) -> None:
    engine = open_cigale(settings())
    nodes = table_nodes(engine)
    rows = compute_rows(settings(), 0, nodes[0].size * nodes[1].size)
    rows[nodes[1].size + 2, 1] = 0.0
    with pytest.raises(UserError, match=r"flux in acs_f814w is 0 mJy at log_age = .*, ebv = 0.25"):
        assemble_table(engine, nodes, rows)


def test_evaluate_table_interpolates(new_cigale: str) -> None:
    engine = open_engine(settings())
    at = {"log_age": [6.513, 7.77], "ebv": [0.31, 0.77]}
    np.testing.assert_array_equal(engine.fluxes(at), engine.table().fluxes(at))
    drawn = {"log_age": np.array([6.513], dtype=np.float32), "ebv": np.array([0.31], dtype=np.float32)}
    assert engine.realise(drawn, {"log_age": (6.0, 8.0), "ebv": (0.0, 1.0)}) == drawn


def test_a_saved_table_is_an_engine(new_cigale: str, tmp_path: Path) -> None:
    engine, table = whole(
        settings(
            {"log_age": (6.0, 7.0, 60), "ebv": (0.0, 0.5, 21)}, map={"metallicity": "bc03_ssp.metallicity"}
        )
    )
    certify_table(engine, table, 50, rng()).save(tmp_path / "t.safetensors")
    saved = TableEngine(FluxTable.load(tmp_path / "t.safetensors"))
    again = TableEngine(certify_table(engine, table, 50, rng()))
    assert saved.describe() == again.describe()
    assert saved.describe()["interpolation_error_mag"] < 0.002
    assert saved.parameters == ("log_age", "ebv", "metallicity")
    assert saved.limits == engine.limits
    drawn = {"log_age": [6.5], "ebv": [0.2], "metallicity": [0.013]}
    single = {name: np.array(values, dtype=np.float32) for name, values in drawn.items()}
    realised = saved.realise(single, {"log_age": (6.0, 7.0), "ebv": (0.0, 0.5)})
    assert (realised["log_age"][0], realised["metallicity"][0]) == (np.float32(6.5), np.float32(0.008))


def test_only_cigale_has_a_table_to_compute() -> None:
    with pytest.raises(UserError, match="only cigale's is computed by workers"):
        open_cigale(ModelSettings(engine="embedded", bands=BANDS))


def test_nan_is_flagged_by_a_saved_table(new_cigale: str) -> None:
    _, table = whole(settings({"log_age": (6.0, 7.0, 4), "ebv": (0.0, 1.0, 5)}))
    flagged = TableEngine(table).flagged_fluxes({"log_age": [6.5, np.nan], "ebv": 0.2})
    assert flagged.bad.tolist() == [False, True]
    assert np.isnan(flagged.fluxes[1]).all()
