"""The LEGUS job on the real catalogues, trained shorter: posteriors against the published values.

The bounds come from an exact grid fit of the same fields with the same spectra (tests/catalogue/
test_exact_fit.py; an independent fit gave log age +0.10 median, 0.16 scatter for ngc628-c). They are wide
enough for a network trained for a minute, and far narrower than what a wrong unit, zero point or distance
would do.
"""

import json
import subprocess
import sys
from pathlib import Path

import pyarrow.dataset as ds
import pytest

ROOT = Path(__file__).resolve().parents[1]
SHORTER = ["mocks.rows=300000", "train.epochs=6", "infer.draws=500", "validate.mocks=500"]

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]


@pytest.fixture(scope="module")
def run(shared, tmp_path_factory):
    folder = tmp_path_factory.mktemp("legus") / "run"
    sets = [f"output={folder}", "cluster.dashboard=127.0.0.1:0", *SHORTER]
    command = [sys.executable, "-m", "batchflow", "run", "jobs/legus.toml", "--json"]
    command += [word for item in sets for word in ("--set", item)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    json.loads(done.stdout)
    return folder, done.stderr


def comparison(folder, **labels):
    wanted = {"bands": "5", "modes": "all", "estimate": "q50", **labels}
    rows = ds.dataset(folder / "validation" / "comparison.parquet").to_table().to_pylist()
    found = [row for row in rows if all(row[key] == value for key, value in wanted.items())]
    assert len(found) == 1
    return found[0]


def test_every_cluster_of_every_field_is_there(run):
    table = ds.dataset(run[0] / "posterior", format="parquet").to_table()
    counts = {}
    for survey in table["survey"].to_pylist():
        counts[survey] = counts.get(survey, 0) + 1
    assert len(counts) == 31
    assert sum(counts.values()) == 6217
    some = {"ngc628-c": 1017, "ngc628-e": 259, "ngc3344": 396, "ngc1313-e": 259, "ngc1566": 1573}
    assert {name: counts[name] for name in some} == some
    assert len(list((run[0] / "posterior").iterdir())) == 28  # galaxies: three have two fields


def test_zero_points_are_stated(run):
    assert "AB - Vega [mag]: wfc3_f275w (1.4815)" in run[1]


@pytest.mark.parametrize("survey", ["ngc628-c", "ngc3344"])
def test_ages_masses_and_reddening_are_near_the_published_ones(run, survey):
    labels = {"survey": survey, "class": "1-2"}
    age = comparison(run[0], parameter="log_age", **labels)
    mass = comparison(run[0], parameter="log_mass", **labels)
    ebv = comparison(run[0], parameter="ebv", **labels)
    assert age["median"] == pytest.approx(0.08, abs=0.12)
    assert age["scatter"] < 0.30
    assert age["within_0.3"] > 0.60
    assert age["in_95"] > 0.80
    assert mass["median"] == pytest.approx(0.09, abs=0.12)
    assert mass["scatter"] < 0.20
    assert ebv["median"] == pytest.approx(-0.02, abs=0.06)
    assert ebv["scatter"] < 0.12


def test_held_out_mocks_are_recovered(run):
    for row in ds.dataset(run[0] / "validation" / "recovery.parquet").to_table().to_pylist():
        assert row["coverage_68"] == pytest.approx(0.68, abs=0.09)
        assert row["coverage_95"] == pytest.approx(0.95, abs=0.06)
        assert abs(row["bias"]) < 0.05
