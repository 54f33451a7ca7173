"""The gap to the exact posterior, and classifier accuracy, of posteriors known to be exact or not."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from exact_models import make_job, photometry, train_model

from batchflow import schema
from batchflow.infer.clusters import Clusters
from batchflow.infer.draw import Options
from batchflow.shards import write_table
from batchflow.threads import threads
from batchflow.validate.catalogue import compare_catalogue, compare_part
from batchflow.validate.exactness import closeness, exact_draws, exact_log_density, gap_at_truth
from batchflow.validate.held_out import mock_columns, recover_held_out
from batchflow.validate.plan import CATALOGUE_TABLES, HELD_OUT_TABLES, OBJECTS
from batchflow.validate.schemas import DELIVERED, NETWORK, WEIGHTED, validation_schemas
from batchflow.validate.tables import calibration_table, figures_table
from batchflow.validate.ways import HPD, all_ranks, draw_ways

PRIOR = {
    "log_age": {"uniform": [6.0, 10.1]},
    "log_mass": {"uniform": [2.0, 7.0]},
    "ebv": {"uniform": [0.0, 1.0]},
}
SETTINGS = {
    "draws": 300,
    "seed": 3,
    "certify": True,
    "min_efficiency": 0.05,
    "max_draws": 600,
    "grid": "fallback",
}


@pytest.fixture(autouse=True)
def _one_thread():
    with threads(1):
        yield


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("validate")


@pytest.fixture(scope="module")
def model(folder):
    return train_model(folder, PRIOR, rows=4000)


@pytest.fixture(scope="module")
def seen(model):
    """Clusters at 10 Mpc and their true parameters."""
    rng = np.random.default_rng(4)
    n = 12
    truth = {"log_age": rng.uniform(6.5, 9.5, n), "ebv": rng.uniform(0.05, 0.8, n)}
    truth["log_mass"] = rng.uniform(3.5, 6, n)
    rows = [photometry(model, {name: values[i] for name, values in truth.items()}, 20.0) for i in range(n)]
    flux, error = (np.stack(column) for column in zip(*rows, strict=True))
    flux = rng.normal(flux, np.hypot(error, 0.05 * flux))
    names = [f"m{i}" for i in range(n)]
    limit = np.zeros(flux.shape, bool)
    return Clusters(flux, error, limit, np.full(n, 10.0), names, ["default"] * n), truth


def test_the_gap_of_the_exact_posterior_is_zero(model, seen, monkeypatch):
    """The grid in the network's place: its density at its own draws is the exact one."""
    clusters, truth = seen
    proposal = model.proposal
    exact = exact_draws(proposal, clusters, Options(2000, True, 1))
    assert exact.efficiency.min() > 0.5
    values = {name: column[:, :50] for name, column in exact.values.items()}
    found = exact_log_density(proposal, clusters, values, exact.log_evidence)
    density = exact.log_density[:, :50] - exact.log_evidence[:, None]
    kept = exact.weights[:, :50] > 0
    assert found[kept] == pytest.approx(density[kept], abs=2e-3)

    def as_exact(theta, *_):
        at = {name: theta[..., i].numpy().astype(float) for i, name in enumerate(proposal.parameters)}
        at["log_mass"] = at["log_mass"] + clusters.log_mass_shift[:, None]
        # The prior of the mass, flat, comes on top and its normalisation goes off again.
        return torch.as_tensor(exact_log_density(proposal, clusters, at, exact.log_evidence))

    monkeypatch.setattr(proposal.network, "log_prob", as_exact, raising=False)
    gap = gap_at_truth(proposal, clusters, truth, (exact, exact.log_evidence))
    assert gap == pytest.approx(0.0, abs=5e-3)


def test_exact_densities_integrate_to_one(model, seen):
    """Over a proposal of its own: the mean of density over proposal is one."""
    clusters, _ = seen
    proposal = model.proposal
    one, two = (exact_draws(proposal, clusters, Options(4000, True, seed)) for seed in (1, 2))
    assert one.log_evidence == pytest.approx(two.log_evidence, abs=0.05)


def test_two_exact_samples_are_alike_and_a_poor_network_is_not(model, seen):
    clusters, _ = seen
    found = closeness(model.proposal, clusters, Options(300, True, 5))
    # A vote on 600 draws has a standard error of 0.02.
    assert found.accuracy["exact"].mean() == pytest.approx(0.5, abs=0.025)
    assert found.accuracy["network"].mean() > 0.6
    assert found.divergence.mean() > 0.1
    assert found.divergence.min() > -0.1


def test_divergence_from_draws_is_the_gap_at_truths(model):
    """Both estimate the same mean, over truths drawn from the exact posteriors themselves."""
    rng = np.random.default_rng(8)
    truth = {"log_age": 7.8, "ebv": 0.3, "log_mass": 5.0}
    flux, error = photometry(model, truth, 15.0)
    n = 200
    clusters = Clusters(
        np.tile(flux, (n, 1)), np.tile(error, (n, 1)), np.zeros((n, len(flux)), bool), np.full(n, 10.0),
        [str(i) for i in range(n)], ["default"] * n,
    )  # fmt: skip
    exact = exact_draws(model.proposal, clusters.rows(np.arange(1)), Options(2000, True, 1))
    place = rng.choice(2000, n, p=exact.weights[0] / exact.weights[0].sum())
    drawn = {name: values[0][place] for name, values in exact.values.items()}
    own = draw_ways(model.proposal, clusters.rows(np.arange(1)), SETTINGS).own
    every = own._replace(values={name: np.repeat(values, n, 0) for name, values in own.values.items()})
    gaps = gap_at_truth(model.proposal, clusters, drawn, (every, np.full(n, exact.log_evidence[0])))
    found = closeness(model.proposal, clusters.rows(np.arange(1)), Options(2000, True, 6)).divergence[0]
    assert gaps.mean() == pytest.approx(found, abs=4 * gaps.std() / np.sqrt(n) + 0.05)


def test_delivered_posteriors_are_the_rescued_ones(model, seen):
    clusters, truth = seen
    found = draw_ways(model.proposal, clusters, SETTINGS | {"grid": "always"})
    assert set(found.method) == {"grid"}
    assert np.all(found.delivered.efficiency > found.own.efficiency)
    weights = {way: sample.weights for way, sample in found.ways.items()}
    assert not np.allclose(weights[DELIVERED], weights[WEIGHTED])
    # No likelihood in the network's own: equal weights within a flat prior.
    inside = weights[NETWORK] > 0
    assert (weights[NETWORK] * inside.sum(1, keepdims=True))[inside] == pytest.approx(1.0)
    plain = draw_ways(model.proposal, clusters, SETTINGS | {"certify": False})
    assert plain.ways[DELIVERED].weights == pytest.approx(plain.ways[NETWORK].weights)
    columns = mock_columns(model, clusters, truth, found, SETTINGS | {"exact": 2})
    assert np.isfinite(columns["kl_exact"]).sum() == 2
    assert columns["c2st_delivered"][:2] == pytest.approx(columns["c2st_exact"][:2])


def test_no_mock_at_all_does_no_harm(model, seen):
    clusters, truth = seen
    none = np.zeros(0, dtype=np.int64)
    empty, nothing = clusters.rows(none), {name: values[none] for name, values in truth.items()}
    found = draw_ways(model.proposal, empty, SETTINGS)
    columns = mock_columns(model, empty, nothing, found, SETTINGS | {"exact": 2})
    assert {len(column) for column in columns.values()} == {0}
    boxes = model.prior.boxes()
    ranks = all_ranks(found.ways, nothing | {HPD: np.zeros(0)}, boxes, 1)
    rows = calibration_table(ranks, found.ways, nothing).to_pylist()
    assert {row["n"] for row in rows} == {0}
    assert figures_table(columns, 5).to_pylist()[0]["value"] == 0


def test_without_a_grid_the_rest_is_done(model, seen):
    clusters, truth = seen
    job = make_job(PRIOR)
    assert job.validate_.exact > 0
    found = draw_ways(model.proposal, clusters, SETTINGS)
    columns = mock_columns(model, clusters, truth, found, SETTINGS | {"exact": 0})
    assert np.isnan(columns["kl_exact"]).all()
    assert np.isfinite(columns["gap_nats"]).any()


def stage_settings(folder, model):
    return SETTINGS | {
        "model": str(folder / "model"),
        "weights": model.network.weights_sha256,
        "held_out": 0.5,
        "mocks": 40,
        "draws": 60,
        "max_draws": 60,
        "exact": 0,
        "distances": {},
        "grid": "never",
    }


def test_the_tables_of_held_out_mocks_are_those_of_the_manual(folder, model, tmp_path):
    """All are written, with the manual's columns; and what is less than asked for is said."""
    outputs = [tmp_path / f"{name}.parquet" for name in HELD_OUT_TABLES]
    shards = [str(folder / "shard.parquet")]
    settings = stage_settings(folder, model) | {"mocks": 4000}
    notes = recover_held_out([str(path) for path in outputs], shards, settings, {})
    assert any("of the 4000 mocks asked for" in note for note in notes)
    wanted = validation_schemas(["log_age", "ebv", "log_mass"])
    for path in outputs:
        found = pq.read_schema(path)
        assert set(wanted[path.stem].names) - {"member_spread"} == set(found.names)
        assert all(b"description" in field.metadata for field in found)
    assert 30 < pq.read_metadata(outputs[0]).num_rows < 4000


def test_three_clusters_without_published_values_are_validated(folder, model, seen, tmp_path):
    """Nothing to compare with is said; predictive checks are done, and every table is there."""
    clusters = seen[0].rows(np.arange(3))
    posterior = model.posterior(
        clusters.flux, clusters.error, distance_mpc=10.0, draws=60, certify=True, seed=1
    )
    bands = {"flux": clusters.flux, "error": clusters.error, "limit": clusters.limit}
    columns = {"galaxy": ["G"] * 3, "survey": ["default"] * 3, "object_id": ["0", "1", "2"]}
    columns |= {"flags": [0] * 3, "class_": [1] * 3, "distance_mpc": [10.0] * 3}
    columns |= {
        f"{kind}_{band}": of[:, i] for kind, of in bands.items() for i, band in enumerate(model.bands)
    }
    schema_ = schema.catalogue_schema(model.bands, schema.PUBLISHED)
    arrays = [pa.array(columns.get(field.name, [np.nan] * 3)).cast(field.type) for field in schema_]
    parts = [str(tmp_path / f"{name}.parquet") for name in ("catalogue", "posterior", "fit", "draws")]
    write_table(Path(parts[0]), pa.Table.from_arrays(arrays, schema=schema_), {})
    write_table(Path(parts[1]), posterior.summary, {})
    outputs = [tmp_path / "validation" / f"{name}.parquet" for name in CATALOGUE_TABLES]
    objects = tmp_path / "validation" / f"{OBJECTS}.parquet"
    assert compare_part([str(objects)], tuple(parts), stage_settings(folder, model), {}) == []
    part = (parts[1], str(objects), parts[2], parts[3])
    notes = compare_catalogue([str(path) for path in outputs], [part], str(tmp_path / "none.parquet"), {})
    outputs.append(objects)
    assert notes == [
        "the classical fit is not there (run `batchflow fit`): its columns are empty",
        "the draws are gone: their columns are empty",
        "no published values in the catalogue: nothing to compare posteriors with",
    ]
    tables = {path.stem: pq.read_table(path) for path in outputs}
    wanted = validation_schemas(["log_age", "ebv", "log_mass"])
    assert all(set(table.column_names) == set(wanted[name].names) for name, table in tables.items())
    assert tables["predictive"]["n"].to_pylist() == [3, 3, 3]
    assert {tables[name].num_rows for name in ("objects", "overlap", "comparison", "reasons")} == {0}
