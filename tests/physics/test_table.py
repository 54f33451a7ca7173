"""The flux table: exact at nodes, linear between, continuous, strict at the limits, whole on disk."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy

from batchflow.errors import UserError
from batchflow.physics.grid import CHUNK
from batchflow.physics.table import FluxTable

AGES = np.array([5.0, 6.0, 6.5, 9.0, 10.25])
EBV = np.array([0.0, 0.5, 2.0])
BANDS = ("red", "blue")


@pytest.fixture
def table() -> FluxTable:
    rng = np.random.default_rng(5)
    log_flux = rng.normal(size=(AGES.size, EBV.size, len(BANDS)))
    return FluxTable(("log_age", "ebv"), (AGES, EBV), BANDS, log_flux, -np.linspace(0, 0.4, AGES.size))


def three_axes() -> FluxTable:
    rng = np.random.default_rng(6)
    nodes = (AGES, EBV, np.array([2.0, 3.1, 6.0]))
    return FluxTable(("log_age", "ebv", "rv"), nodes, BANDS, rng.normal(size=(5, 3, 3, 2)), np.zeros(5))


def test_nodes_are_reproduced(table: FluxTable) -> None:
    ages, ebv = (grid.ravel() for grid in np.meshgrid(AGES, EBV, indexing="ij"))
    fluxes = table.fluxes({"log_age": ages, "ebv": ebv})
    np.testing.assert_allclose(fluxes, 10 ** table.log_flux.reshape(-1, 2), rtol=4e-15)


def test_nodes_of_three_axes_are_reproduced() -> None:
    table = three_axes()
    columns = (grid.ravel() for grid in np.meshgrid(*table.nodes, indexing="ij"))
    fluxes = table.fluxes(dict(zip(table.parameters, columns, strict=True)))
    np.testing.assert_allclose(fluxes, 10 ** table.log_flux.reshape(-1, 2), rtol=4e-15)


def test_log_flux_is_linear_within_a_cell(table: FluxTable) -> None:
    steps = np.linspace(0, 1, 11)
    along_age = np.log10(table.fluxes({"log_age": 6.5 + 2.5 * steps, "ebv": 0.5}))
    along_ebv = np.log10(table.fluxes({"log_age": 9.0, "ebv": 0.5 + 1.5 * steps}))
    for line in (along_age, along_ebv):
        np.testing.assert_allclose(np.diff(line, n=2, axis=0), 0, atol=1e-13)
    assert abs(along_age[-1] - along_age[0]).max() > 0.1


def test_middle_of_a_cell_is_the_mean_of_its_corners() -> None:
    table = three_axes()
    flux = table.fluxes({"log_age": 7.75, "ebv": 0.25, "rv": 4.55})
    np.testing.assert_allclose(
        np.log10(flux)[0], table.log_flux[2:4, 0:2, 1:3].mean(axis=(0, 1, 2)), rtol=1e-12
    )


def test_fluxes_are_continuous_across_nodes(table: FluxTable) -> None:
    below = table.fluxes({"log_age": np.nextafter(AGES[1:-1], 0), "ebv": 0.3})
    above = table.fluxes({"log_age": np.nextafter(AGES[1:-1], 20), "ebv": 0.3})
    np.testing.assert_allclose(below, above, rtol=1e-13)


def test_scalars_are_broadcast_and_chunks_join(table: FluxTable) -> None:
    ages = np.random.default_rng(2).uniform(5, 10.25, 2 * CHUNK + 17)
    at_once = table.fluxes({"log_age": ages, "ebv": 0.7})
    one_by_one = [table.fluxes({"log_age": ages[i], "ebv": 0.7})[0] for i in (0, CHUNK - 1, CHUNK, -1)]
    np.testing.assert_array_equal(at_once[[0, CHUNK - 1, CHUNK, -1]], one_by_one)
    assert table.fluxes({"log_age": np.zeros(0), "ebv": 0.1}).shape == (0, 2)


def test_integers_lists_and_float32_are_taken(table: FluxTable) -> None:
    expected = table.fluxes({"log_age": [6.0, 9.0], "ebv": 0.5})
    np.testing.assert_array_equal(table.fluxes({"log_age": [6, 9], "ebv": np.float32(0.5)}), expected)


def test_nan_in_nan_out(table: FluxTable) -> None:
    fluxes = table.fluxes({"log_age": [6.0, np.nan, 6.0], "ebv": [0.1, 0.1, np.nan]})
    np.testing.assert_array_equal(np.isnan(fluxes), [[False, False], [True, True], [True, True]])


def test_rows_without_flux_are_flagged_and_limits_hold_beside_them(table: FluxTable) -> None:
    values = {"log_age": [6.0, np.nan, 6.0], "ebv": [0.1, 0.1, np.nan]}
    flagged = table.flagged_fluxes(values)
    assert flagged.bad.tolist() == [False, True, True]
    np.testing.assert_array_equal(flagged.fluxes, table.fluxes(values))
    with pytest.raises(UserError, match=r"log_age = 10.3 \(1 of 2 values\).*5 to 10.25"):
        table.flagged_fluxes({"log_age": [np.nan, 10.3], "ebv": 0.1})


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"log_age": [6, 10.3], "ebv": 0}, r"log_age = 10.3 \(1 of 2 values\).*5 to 10.25"),
        ({"log_age": 4.9, "ebv": 0}, r"log_age = 4.9"),
        ({"log_age": 6, "ebv": -0.01}, r"ebv = -0.01.*0 to 2"),
        ({"log_age": 6, "ebv": np.inf}, r"ebv = inf"),
        ({"log_age": 6, "ebv": 0, "rv": 3.1}, "unknown parameter 'rv'"),
        ({"log_agee": 6, "ebv": 0}, "unknown parameter 'log_agee'; did you mean 'log_age'"),
        ({"log_age": 6}, "missing parameter ebv; expected log_age, ebv"),
        ({"log_age": [6, 7], "ebv": [0, 1, 2]}, "shapes.*expected scalars or one length"),
        ({"log_age": [[6, 7]], "ebv": 0}, "shapes.*expected scalars or one length"),
    ],
)
def test_wrong_parameters_are_refused(table: FluxTable, values: dict[str, object], message: str) -> None:
    with pytest.raises(UserError, match=message):
        table.fluxes(values)  # type: ignore[arg-type]  # on purpose


def test_float32_rounding_at_the_limits_is_no_extrapolation(table: FluxTable) -> None:
    beyond = table.fluxes({"log_age": 10.25 + 5e-7, "ebv": -5e-7})
    np.testing.assert_array_equal(beyond, table.fluxes({"log_age": 10.25, "ebv": 0.0}))


def test_limits(table: FluxTable) -> None:
    assert table.limits == {"log_age": (5.0, 10.25), "ebv": (0.0, 2.0)}


def test_surviving_is_linear_in_the_logarithms(table: FluxTable) -> None:
    np.testing.assert_allclose(table.surviving(AGES), 10**table.log_surviving)
    middle = table.surviving(7.75)[0]
    assert middle == pytest.approx(np.sqrt(10 ** table.log_surviving[2] * 10 ** table.log_surviving[3]))
    assert np.isnan(table.surviving(np.nan)[0])
    with pytest.raises(UserError, match=r"log_age = 11.*5 to 10.25"):
        table.surviving([6, 11])


@pytest.mark.parametrize("axes", [2, 3])
def test_saved_table_is_the_same(table: FluxTable, axes: int, tmp_path: Path) -> None:
    saved = table if axes == 2 else three_axes()
    saved.save(tmp_path / "table.safetensors")
    found = FluxTable.load(tmp_path / "table.safetensors")
    assert [path.name for path in tmp_path.iterdir()] == ["table.safetensors"]
    assert (found.parameters, found.bands) == (saved.parameters, saved.bands)
    for name, array in saved.to_tensors().items():
        np.testing.assert_array_equal(found.to_tensors()[name], array)
    values = {"log_age": 7.1, "ebv": 0.3, "rv": 3.3}
    values = {name: values[name] for name in saved.parameters}
    np.testing.assert_array_equal(found.fluxes(values), saved.fluxes(values))


def test_arrays_that_are_not_contiguous_are_saved_right(table: FluxTable, tmp_path: Path) -> None:
    turned = dataclasses.replace(table, log_flux=np.asfortranarray(table.log_flux))
    turned.save(tmp_path / "t")
    np.testing.assert_array_equal(FluxTable.load(tmp_path / "t").log_flux, table.log_flux)


def test_a_file_that_is_no_table_is_refused(table: FluxTable, tmp_path: Path) -> None:
    path = tmp_path / "t"
    with pytest.raises(UserError, match="cannot be read"):
        FluxTable.load(path)
    path.write_bytes(b"not a table")
    with pytest.raises(UserError, match="cannot be read"):
        FluxTable.load(path)
    safetensors.numpy.save_file({"log_flux": table.log_flux}, path)
    with pytest.raises(UserError, match="format is None"):
        FluxTable.load(path)


def test_a_table_that_lacks_an_array_is_refused(table: FluxTable) -> None:
    tensors = table.to_tensors()
    del tensors["nodes.ebv"]
    with pytest.raises(UserError, match=r"not a whole flux table.*nodes\.ebv"):
        FluxTable.from_tensors(tensors, table.metadata())


def test_failed_save_leaves_the_old_file(
    table: FluxTable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "t"
    table.save(path)
    before = path.read_bytes()

    def fail(descriptor: int) -> None:
        raise OSError("disk full")

    monkeypatch.setattr("os.fsync", fail)
    with pytest.raises(UserError, match="disk full"):
        dataclasses.replace(table, log_flux=2 * table.log_flux).save(path)
    assert path.read_bytes() == before
    assert len(list(tmp_path.iterdir())) == 1


@pytest.mark.parametrize(
    "wrong",
    [
        {"bands": ("one",)},
        {"nodes": (AGES, EBV[:2])},
        {"nodes": (AGES, EBV[::-1])},
        {"parameters": ("log_age",)},
        {"log_surviving": np.zeros(3)},
    ],
)
def test_shapes_must_agree(table: FluxTable, wrong: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=r"expected|increasing"):
        dataclasses.replace(table, **wrong)  # type: ignore[arg-type]  # on purpose
