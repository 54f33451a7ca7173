"""Each query of the README against numpy, on the files themselves."""

import re
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from asked_run import CENTRE, make_asked_run
from astropy import units
from astropy.coordinates import SkyCoord

from batchflow.results.query import query
from batchflow.schema import Flag

README = Path(__file__).resolve().parents[2] / "README.md"
(BLOCK,) = re.findall(r"```sql\n(.*?)```", README.read_text(encoding="utf-8"), re.DOTALL)
QUERIES = {text.splitlines()[0].removeprefix("-- "): text for text in BLOCK.strip().split("\n\n")}


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return make_asked_run(tmp_path_factory.mktemp("asked"))


def ask(run, start):
    (sql,) = [sql for title, sql in QUERIES.items() if title.startswith(start)]
    return query(run.root, sql).to_pylist()


def frame(folder):
    parts = sorted(folder.glob("galaxy=*/*.parquet"))
    return pd.concat([pq.read_table(p, partitioning=None).to_pandas() for p in parts], ignore_index=True)


def chances(run, condition):
    """Probability of each cluster, None where there are no draws."""
    rows = {}
    for row in frame(run.draws).itertuples():
        weights = np.exp(np.asarray(row.log_weight, dtype=float))
        inside = condition(*(np.asarray(v) for v in (row.log_age, row.log_mass, row.ebv)))
        rows[row.galaxy, row.object_id] = (weights * inside).sum() / weights.sum() if len(weights) else None
    return rows


def names(rows):
    return [(row["galaxy"], row["object_id"]) for row in rows]


def test_there_are_ten():
    assert len(QUERIES) == 10


def test_young_and_massive(run):
    expected = chances(run, lambda age, mass, _: (age < 7) & (mass >= 4))
    found = ask(run, "Young massive")
    assert set(names(found)) == {key for key, p in expected.items() if p is not None and p > 0.9}
    assert found
    assert [row["p"] for row in found] == pytest.approx(sorted((row["p"] for row in found), reverse=True))
    for row in found:
        assert row["p"] == pytest.approx(expected[row["galaxy"], row["object_id"]], rel=1e-6)


def test_bimodal(run):
    rows = [row for row in frame(run.posterior).itertuples() if row.mode_weight is not None]
    wanted = [row for row in rows if len(row.mode_weight) > 1 and sorted(row.mode_weight)[-2] > 0.1]
    wanted.sort(key=lambda row: -row.log_age_std)
    assert names(ask(run, "Bimodal")) == [(row.galaxy, row.object_id) for row in wanted]
    assert len(wanted) >= 3


def test_published_ages(run):
    table = frame(run.posterior)
    age = table.published_log_age.to_numpy()
    outside = (age < table.log_age_q02) | (age > table.log_age_q97)  # False where NaN
    wanted = (
        table[outside].assign(gap=abs(age - table.log_age_q50)[outside]).sort_values("gap", ascending=False)
    )
    assert names(ask(run, "Published")) == list(zip(wanted.galaxy, wanted.object_id, strict=True))
    assert 0 < len(wanted) < len(table)


def test_mass_function(run):
    found = ask(run, "Mass function")
    assert [row["low"] for row in found] == list(np.arange(2, 7, 0.5))
    for row in found:
        low = row["low"]
        inside = chances(run, lambda _, mass, __, low=low: (mass >= low) & (mass <= low + 0.5))
        p = np.array([v for (galaxy, _), v in inside.items() if galaxy == "Demo-A" and v is not None])
        assert row["clusters"] == pytest.approx(p.sum(), abs=1e-6)
        assert row["uncertainty"] == pytest.approx(np.sqrt((p * (1 - p)).sum()), abs=1e-6)
    assert sum(row["clusters"] for row in found) == pytest.approx(11, abs=0.2)


def test_cone(run):
    table = frame(run.posterior)
    place = SkyCoord(*CENTRE, unit="deg")
    apart = place.separation(SkyCoord(table.ra.to_numpy(), table.dec.to_numpy(), unit="deg")).to(units.arcsec)
    order = np.argsort(apart.value, kind="stable")
    near = [i for i in order if apart.value[i] <= 30]
    found = ask(run, "Cone")
    assert set(names(found)) == {(table.galaxy[i], table.object_id[i]) for i in near}
    assert [row["arcsec"] for row in found] == pytest.approx(apart.value[near], abs=1e-6)
    assert 0 < len(near) < len(table)


def test_worst_efficiency(run):
    table = frame(run.posterior).dropna(subset="efficiency").sort_values("efficiency").head(10)
    found = ask(run, "Worst")
    assert names(found) == list(zip(table.galaxy, table.object_id, strict=True))
    for row, flags in zip(found, table["flags"], strict=True):
        assert row["flagged"] == [flag.name for flag in Flag if flag & flags]


def test_flags_by_galaxy(run):
    table = frame(run.posterior)
    expected = [
        (galaxy, flag.name, int(((rows["flags"] & flag.value) != 0).sum()))
        for galaxy, rows in table.groupby("galaxy", observed=True)
        for flag in Flag
        if ((rows["flags"] & flag.value) != 0).any()
    ]
    found = [(row["galaxy"], row["flag"], row["clusters"]) for row in ask(run, "Flags")]
    assert found == sorted(expected)


def test_young_shares(run):
    inside = chances(run, lambda age, _, __: age < 7)
    for row in ask(run, "Share"):
        p = np.array([v for (galaxy, _), v in inside.items() if galaxy == row["galaxy"] and v is not None])
        assert row["share"] == pytest.approx(p.mean(), rel=1e-6)
        assert row["uncertainty"] == pytest.approx(np.sqrt((p * (1 - p)).sum()) / len(p), rel=1e-5, abs=1e-9)


def test_correlation(run):
    rows = frame(run.draws)
    row = rows[rows.object_id == "Demo-A-1"].iloc[0]
    age, ebv = (np.asarray(row[name], dtype=float) for name in ("log_age", "ebv"))
    weights = np.exp(np.asarray(row.log_weight, dtype=float))
    cov = np.cov(age, ebv, aweights=weights)
    (found,) = ask(run, "How age")
    assert found["correlation"] == pytest.approx(cov[0, 1] / np.sqrt(cov[0, 0] * cov[1, 1]), abs=0.02)


def test_brightest(run):
    table = frame(run.posterior).merge(frame(run.catalogue), on=["galaxy", "object_id"], suffixes=("", "_c"))
    table = table.merge(frame(run.draws), on=["galaxy", "object_id"])
    flux = table.flux_wfc3_f555w
    table = table[(table.log_age_q50 < 8) & (flux > 0) & (table["flags"] & Flag.LOW_EFFICIENCY.value == 0)]
    table = table.sort_values("flux_wfc3_f555w", ascending=False).head(10)
    found = ask(run, "The brightest")
    assert names(found) == list(zip(table.galaxy, table.object_id, strict=True))
    assert found
    for row, (_, given) in zip(found, table.iterrows(), strict=True):
        magnitude = (given.flux_wfc3_f555w * units.mJy).to(units.ABmag).value
        assert row["v_ab"] == pytest.approx(magnitude, abs=1e-3)
        ages, weights = np.asarray(given.log_age), np.exp(np.asarray(given.log_weight, dtype=float))
        reached = np.cumsum(weights[np.argsort(ages)])
        first = np.searchsorted(reached, 0.9 * reached[-1])
        assert row["log_age_q90"] == pytest.approx(np.sort(ages)[first])
