"""A job with every kind of parameter, through the command line."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest

JOB = Path(__file__).resolve().parents[1] / "jobs" / "quickstart.toml"
SMALL = [
    "mocks.rows=20000",
    "mocks.rows_per_shard=10000",
    "train.epochs=3",
    "train.held_out=0.2",
    "flow.hidden=32",
    "flow.couplings=4",
    "infer.draws=300",
    "validate.mocks=300",
    "cluster.cpu_workers=1",
    "cluster.dashboard=127.0.0.1:0",
    "prior.log_mass={power_law = [-2.0, 2.0, 7.0]}",
    "prior.ebv={truncated_normal = [0.2, 0.3, 0.0, 1.5]}",
    "prior.metallicity={uniform = [0.008, 0.03]}",
    "prior.rv={choice = [2.7, 3.1, 3.5]}",
    "prior.covering={uniform = [0.0, 0.6], marginalise = true}",
]

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("nuisances") / "run"
    sets = [word for item in [*SMALL, f"output={folder}"] for word in ("--set", item)]
    command = [sys.executable, "-m", "batchflow", "run", str(JOB), "--json", *sets]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return folder, json.loads(done.stdout)


def names(table):
    return {name.rsplit("_", 1)[0] for name in table.column_names if name.endswith("_q50")}


def test_mocks_hold_all_that_is_drawn_and_tables_what_is_inferred(run):
    mocks = pq.read_table(next((run[0] / "mocks").glob("*.parquet")))
    assert {"metallicity", "rv", "covering"} <= set(mocks.column_names)
    assert set(np.unique(mocks["rv"])) == set(np.float32([2.7, 3.1, 3.5]))
    posterior = ds.dataset(run[0] / "posterior", format="parquet").to_table()
    assert names(posterior) == {"log_age", "log_mass", "ebv", "metallicity", "log_mass_current"}
    draws = ds.dataset(run[0] / "draws", format="parquet").to_table()
    wanted = {"galaxy", "object_id", "log_age", "log_mass", "ebv", "metallicity", "log_weight"}
    assert set(draws.column_names) == wanted


def test_posteriors_are_certified_and_lie_in_the_prior(run):
    table = ds.dataset(run[0] / "posterior", format="parquet").to_table()
    efficiency = table["efficiency"].to_numpy()
    assert np.nanmedian(efficiency) > 0.02
    for name, low, high in (("log_mass", 2.0, 7.0), ("metallicity", 0.008, 0.03)):
        values = table[f"{name}_q50"].to_numpy()
        assert ((values >= low) & (values <= high))[np.isfinite(efficiency)].all()


def test_held_out_mocks_of_this_prior_are_recovered(run):
    rows = pq.read_table(run[0] / "validation" / "recovery.parquet").to_pylist()
    assert {row["parameter"] for row in rows} == {"log_age", "log_mass", "ebv", "metallicity"}
    for row in rows:
        assert row["n"] > 50
        assert row["coverage_95"] > 0.80


def test_all_of_it_can_be_told(run):
    assert set(run[1]) == {"mocks", "train", "infer", "fit", "validate", "report"}
    page = (run[0] / "report" / "index.html").read_text()
    assert "could not be made" not in page
