"""The report: what is in it, what it says of what is not there, and that no catalogue's word gets through."""

from __future__ import annotations

import base64
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from report_runs import BANDS, replace_column, write_run

from batchflow.paths import RunFolder, partition_folder
from batchflow.report.content import Absence, Listing, Section, shown
from batchflow.report.data import ReportData
from batchflow.report.page import write_page
from batchflow.report.sections import SECTIONS, SectionMaker
from batchflow.report.sections.brief import in_brief
from batchflow.report.sections.calibration import calibration
from batchflow.report.sections.chosen import chosen_clusters
from batchflow.report.sections.clusters import _apart
from batchflow.report.sections.comparison import _reach, against_published
from batchflow.report.sections.population import populations
from batchflow.report.sections.trust import worst_objects
from batchflow.results.tables import open_run
from batchflow.schema import Flag
from batchflow.shards import write_table

TITLES = (
    *("In brief", "All clusters", "Age and mass by galaxy", "Colours by galaxy", "Populations"),
    "Chosen clusters",
    *("Against published values", "Against the classical fit", "Calibration on held-out mocks"),
    *("Further checks", "Trust", "Flags", "Worst objects", "Training", "What was run", "The trained model"),
)
HOSTILE = (
    "<script>alert(1)</script>",
    r"$\frac{",
    "银河 [/bold]",
    "../../x",
    '"><img src=http://x.invalid/>',
)


QUICK = tuple(maker for maker in SECTIONS if maker is not chosen_clusters)
"""All but the pictures that take longest."""


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    return write_run(tmp_path_factory.mktemp("report") / "run", {"NGC 1": 60, "M 3": 3})


@pytest.fixture
def copied(whole: RunFolder, tmp_path: Path) -> RunFolder:
    shutil.copytree(whole.root, tmp_path / "run", ignore=shutil.ignore_patterns("report"))
    return RunFolder(tmp_path / "run")


def page_of(run: RunFolder, makers: tuple[SectionMaker, ...] = QUICK) -> str:
    path = write_page(open_run(run.root), makers)
    assert path == run.root.resolve() / "report" / "index.html"
    text = path.read_text(encoding="utf-8")
    assert "could not be made" not in text
    return text


def absences(text: str) -> list[str]:
    return re.findall(r'<p class="absent">(.*?)</p>', text)


def test_page_is_whole_and_needs_nothing_else(whole: RunFolder) -> None:
    text = page_of(whole, SECTIONS)
    assert re.findall(r"<h2>(.*?)</h2>", text) == list(TITLES)
    images = re.findall(r'href="pictures/([\w-]+)\.png".*?src="data:image/png;base64,([^"]+)"', text)
    beside = {path.stem: path.read_bytes() for path in (whole.report / "pictures").glob("*.png")}
    assert {name: base64.b64decode(code) for name, code in images} == beside
    assert {"training", "trust", "age-mass-1", "colours-1", "against-published"} <= set(beside)
    assert {f"cluster-{which}-{kind}" for which in ("best", "worst") for kind in ("corner", "sed")} <= set(
        beside
    )
    assert not re.search(r'(src|href)="(?!data:|#|pictures/)', text)
    assert not re.search(r"@import|url\(|<link|<iframe", text)
    assert all(len(alt) > 10 for alt in re.findall(r'alt="([^"]*)"', text))
    assert len(re.findall(r"<figcaption>[^<]{20,}</figcaption>", text)) == len(images)


def test_figures_at_the_top_are_those_of_the_tables(whole: RunFolder) -> None:
    run = open_run(whole.root)
    table = run.posterior.to_pandas()
    known = table[table.log_age_q50.notna()]
    (listing,) = (block for block in in_brief(ReportData(run)).blocks if isinstance(block, Listing))
    rows = dict(listing.rows)
    assert rows["clusters"] == "63 in 2 galaxies"
    assert rows["with a posterior"] == "61 (96.8 %)"
    assert rows["efficiency"].startswith(f"median {np.median(known.efficiency):.2f};")
    close = 100 * np.mean(np.abs(known.log_age_q50 - known.published_log_age) <= 0.3)
    assert f"{close:.0f} % within 0.3 dex (61 clusters)" in rows["log age less the published one"]


def test_of_a_sample_shares_are_told_and_no_counts(whole: RunFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("batchflow.report.data.MOST", 21)
    paragraph, table = in_brief(ReportData(open_run(whole.root))).blocks
    rows = dict(table.rows)
    assert rows["clusters"] == "63 in 2 galaxies"
    assert re.fullmatch(r"[\d.]+ %", rows["with a posterior"])
    assert "Drawn: 21 of 63 clusters" in paragraph.text


def test_published_values_that_are_the_medians_agree(copied: RunFolder) -> None:
    for path in copied.posterior.glob("*/*.parquet"):
        table = pq.read_table(path, partitioning=None)
        replace_column(path, "published_log_age", pc.add(table["log_age_q50"], 0.5).cast(pa.float64()))
    blocks = against_published(ReportData(open_run(copied.root))).blocks
    listing = next(block for block in blocks if isinstance(block, Listing))
    row = dict(zip(listing.head, listing.rows[0], strict=True))
    assert row["parameter"] == "log_age"
    assert row["median"] == pytest.approx(-0.5, abs=1e-6)
    assert row["scatter"] == pytest.approx(0.0, abs=1e-6)
    assert (row["within 0.3"], row["beyond 1"]) == (0.0, 0.0)


def test_worst_objects_are_the_worst(whole: RunFolder) -> None:
    run = open_run(whole.root)
    table = run.posterior.to_pandas()
    lowest = table[table.log_age_q50.notna()].nsmallest(10, "efficiency")
    (listing,) = (block for block in worst_objects(ReportData(run)).blocks if isinstance(block, Listing))
    found = [row for row in listing.rows if row[0] == "efficiency"]
    assert [row[2] for row in found] == lowest.object_id.tolist()
    assert len(listing.rows) <= 40


LACKS = {
    "draws": "stores no draws",
    "model": "no training history",
    "catalogue": "no catalogue",
    "validation": "No calibration has been measured",
    "logs": "stages.json is absent",
    "posterior": "no posteriors (yet)",
}


@pytest.mark.parametrize("folder", LACKS)
def test_what_a_run_lacks_is_said_and_the_rest_is_made(copied: RunFolder, folder: str) -> None:
    shutil.rmtree(copied.root / folder)
    text = page_of(copied, SECTIONS if folder in ("draws", "posterior") else QUICK)
    assert any(LACKS[folder] in line for line in absences(text))


def test_a_run_with_nothing_but_its_model_has_a_page(copied: RunFolder) -> None:
    for folder in ("posterior", "draws", "catalogue", "validation", "logs"):
        shutil.rmtree(copied.root / folder)
    copied.job.unlink()
    text = page_of(copied, SECTIONS)
    assert "pictures/training.png" in text
    assert len(absences(text)) >= 9


def test_nothing_published_is_said(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", {"NGC 1": 12}, published=False)
    assert any("no published values" in line for line in absences(page_of(run)))


def test_two_clusters_without_any_posterior(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", {"A": 1, "B": 1})
    text = page_of(run, SECTIONS)
    assert any("None of the clusters has a posterior" in line for line in absences(text))
    assert "NO_DISTANCE" in text


def test_many_galaxies_are_many_pictures_but_not_without_end(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", {"G 00": 4})
    for table in (run.posterior, run.catalogue):
        source = pq.read_table(next(table.glob("*/*.parquet")), partitioning=None)
        for i in range(1, 40):
            names = pa.array([f"G {i:02d}"] * 4).cast(source.schema.field("galaxy").type)
            renamed = source.set_column(
                source.schema.get_field_index("galaxy"), source.schema.field("galaxy"), names
            )
            write_table(partition_folder(table, f"G {i:02d}") / "part-00000.parquet", renamed, {})
    text = page_of(run)
    assert "pictures/age-mass-3.png" in text
    assert "pictures/age-mass-4.png" not in text
    assert any("4 further galaxies" in line for line in absences(text))


@pytest.mark.filterwarnings("error")
def test_names_of_a_catalogue_are_only_text(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", dict.fromkeys(HOSTILE, 3))
    text = page_of(run, SECTIONS)
    assert text.count("<script>") == 1
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in text
    assert "<img src=http" not in text
    assert "银河" in text
    assert all(re.fullmatch(r"[a-z0-9-]+", path.stem) for path in (run.report / "pictures").iterdir())


def test_a_section_that_fails_says_so_and_the_rest_is_made(whole: RunFolder) -> None:
    def broken_part(_: ReportData) -> Section:
        raise ZeroDivisionError("<b>1 / 0</b>")

    path = write_page(open_run(whole.root), (broken_part, in_brief))
    text = path.read_text()
    assert "This part could not be made: ZeroDivisionError: &lt;b&gt;1 / 0" in text
    assert "In brief" in text


def test_pictures_of_an_older_report_go(whole: RunFolder) -> None:
    old = whole.report / "pictures" / "old.png"
    old.parent.mkdir(parents=True, exist_ok=True)
    old.write_bytes(b"")
    write_page(open_run(whole.root), (in_brief,))
    assert not old.exists()


def test_validation_tables_are_known_by_their_columns(copied: RunFolder) -> None:
    level = np.linspace(0.05, 0.95, 19)
    curve = {
        "way": "own",
        "parameter": "log_age",
        "level": level,
        "coverage": level**1.1,
        "error": 0.01 + 0 * level,
    }
    low = np.arange(10) / 10
    ranks = {"way": "own", "parameter": "joint", "low": low, "high": low + 0.1}
    tables = {
        "any_name": columns(curve),
        "another": columns(ranks | {"count": np.full(10, 40), "expected": np.full(10, 40.0)}),
        "strata": pa.table(
            {"by": ["signal"], "stratum": ["<b>"], "parameter": ["ebv"], "n": [9], "verdict": ["bad"]}
        ),
        "of_objects": columns(
            {"object_id": np.arange(300), "why": np.where(np.arange(300) % 3, "mode", "noise")}
        ),
    }
    for name, table in tables.items():
        pq.write_table(table, copied.validation / f"{name}.parquet")
    text = page_of(copied)
    assert "pictures/validation-any-name-curve.png" in text
    assert "pictures/validation-another-ranks.png" in text
    assert "&lt;b&gt;" in text
    assert re.search(r"rows by why.*?mode</td><td[^>]*>200<", text, re.S)


def columns(values: dict[str, object]) -> pa.Table:
    n = max(len(value) for value in values.values() if isinstance(value, np.ndarray))
    return pa.table({k: v if isinstance(v, np.ndarray) else [v] * n for k, v in values.items()})


@pytest.mark.parametrize("drawn", [True, False])
def test_classical_fit_is_compared_object_by_object(copied: RunFolder, drawn: bool) -> None:
    """With what the draws say; medians that are the exact grid's own are not held against it."""
    for path in sorted(copied.posterior.glob("*/*.parquet")):
        table = pq.read_table(path, partitioning=None)
        bit = pa.scalar(Flag.SAMPLED_SUMMARY * drawn, pa.int32())
        place = table.column_names.index("flags")
        write_table(path, table.set_column(place, "flags", pc.bit_wise_or(table["flags"], bit)), {})
        fit = table.select(["galaxy", "object_id", "log_age_q50"])
        fit = fit.append_column("best_log_age", pc.subtract(fit["log_age_q50"], pa.scalar(0.5, pa.float32())))
        shifted = fit.set_column(2, "log_age_q50", pc.add(fit["log_age_q50"], pa.scalar(0.25, pa.float32())))
        write_table(
            copied.root / "fit" / path.relative_to(copied.posterior),
            shifted.take(pa.array(range(len(fit)))[::-1]),
            {},
        )
        if drawn and "NGC" in str(path):
            # A row that bears the id of another: no fit is held against it.
            odd = pa.array([0, 0])
            twice = pq.read_table(path, partitioning=None).take(odd)
            bits = pc.bit_wise_or(twice["flags"], pa.scalar(int(Flag.DUPLICATE_ID), pa.int32()))
            write_table(path.with_name("part-00009.parquet"), twice.set_column(place, "flags", bits), {})
    text = page_of(copied)
    row = re.search(r"classical fit value: median.*?<tr><td[^>]*>log_age</td>(.*?)</tr>", text, re.S)
    assert bool(row) == drawn == ("come from the exact grid" not in text)
    assert re.search(r"best fit value: median.*?>log_age</td><td[^>]*>61</td><td[^>]*>0.500</td>", text, re.S)
    if not row:
        return
    cells = re.findall(r">([^<>]+)</td>", row[1])
    assert cells[0] == "61"
    assert float(cells[1]) == -0.25
    assert float(cells[2]) < 1e-6


def test_methods_and_reasons_stand_beside_published_values(copied: RunFolder) -> None:
    what = {"survey": ["all", "NGC 1"], "modes": ["all", "all"], "parameter": ["log_age", "log_age"]}
    methods = what | {
        "estimate": ["classical best fit"] * 2,
        "reference": ["published"] * 2,
        "median": [0.1234, 0.5],
    }
    reasons = {"survey": ["all", "NGC 1"], "reason": ["agrees", "poor fit"], "n": [7, 1]}
    for name, table in (("methods", methods), ("reasons", reasons)):
        pq.write_table(pa.table(table), copied.validation / f"{name}.parquet")
    text = page_of(copied, (against_published,))
    assert re.search(r">log_age</td>.*?>classical best fit</td>.*?>0.123</td>", text)
    assert ">agrees</td>" in text
    assert ">poor fit</td>" not in text


def test_the_worst_stratum_is_the_first_table_of_the_calibration(copied: RunFolder) -> None:
    strata = {"by": ["n_bands"] * 2, "stratum": ["five", "four"], "parameter": ["ebv"] * 2, "n": [9, 9]}
    strata |= {"pvalue": [0.5, 0.2], "pvalue_corrected": [1.0, 1.0], "coverage_68": [0.7, 0.6]}
    pq.write_table(pa.table(strata), copied.validation / "strata.parquet")
    text = page_of(copied, (calibration,))
    assert text.index(">four<") < text.index(">five<") < text.index("Recovery of true values")


def test_recovery_told_by_way_is_told_once(copied: RunFolder) -> None:
    ways = {"way": ["delivered"], "parameter": ["hpd"], "n": [9], "coverage_68": [0.7], "coverage_95": [0.9]}
    pq.write_table(pa.table(ways), copied.validation / "calibration.parquet")
    text = page_of(copied, (calibration,))
    assert text.count("Recovery of true values") == 1


def test_bands_of_two_cameras_make_no_colour() -> None:
    pivots = {"a_f555w": 5361.0, "w_f555w": 5308.0, "a_f814w": 8045.0, "w_f814w": 8039.0, "w_f275w": 2710.0}
    counts = {"a_f555w": 9, "w_f555w": 4, "a_f814w": 9, "w_f814w": 4, "w_f275w": 13}
    ordered = sorted(pivots, key=pivots.__getitem__)
    assert _apart(ordered, counts, pivots) == ("w_f275w", "a_f555w", "a_f814w")


def test_populations_are_drawn_where_they_were_inferred(copied: RunFolder) -> None:
    assert "have not been inferred" in page_of(copied, (populations,))
    edge = np.arange(6.0, 10.0, 0.5)
    share = {name: edge / 10 + i / 100 for i, name in enumerate(("q02", "q16", "q50", "q84", "q97"))}
    bins = {"galaxy": "NGC 1", "parameter": "log_age", "low": edge, "high": edge + 0.5, "medians": edge / 10}
    table = columns(bins | share | {"n_clusters": np.full(len(edge), 60)})
    write_table(copied.root / "population" / "population.parquet", table, {})
    assert "pictures/populations.png" in page_of(copied, (populations,))


@pytest.mark.slow
def test_a_hundred_thousand_clusters_make_a_page_of_the_same_size(copied: RunFolder) -> None:
    small = len(page_of(copied, SECTIONS))
    copies = 1700
    for table in (copied.posterior, copied.catalogue):
        path = next(table.glob("galaxy=NGC*/*.parquet"))
        source = pq.read_table(path, partitioning=None)
        write_table(path, pa.concat_tables([source] * copies), {})
    start = time.process_time()
    text = page_of(copied, SECTIONS)
    assert open_run(copied.root).posterior.dataset.count_rows() > 100_000
    assert "102,003 in 2 galaxies" in text
    assert len(text) < 1.5 * small
    assert text.count("<tr>") < 300
    assert time.process_time() - start < 90


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "\N{EN DASH}"),
        (float("nan"), "\N{EN DASH}"),
        (12345, "12,345"),
        (0.98765, "0.988"),
        (3e-5, "3e-05"),
        (-9.2e-4, "-0.0009"),
    ],
)
def test_numbers_are_short(value: object, text: str) -> None:
    assert shown(value) == text


def test_numbers_of_a_column_have_as_many_decimals() -> None:
    rows = ((0.75, 1e-9, 12, -1e-5, 0.5), (0.0123456, 0.5, 3, 0.2, None), (float("nan"), 0.02, 1, 1.0, 1))
    found = Listing("", ("share", "ks pvalue", "n", "median", "few"), rows).texts
    assert [row[0] for row in found] == ["0.750", "0.012", "\N{EN DASH}"]
    assert [row[1] for row in found] == ["1e-09", "0.5", "0.02"]
    assert [row[2] for row in found] == ["12", "3", "1"]
    assert [row[3] for row in found] == ["0.000", "0.200", "1.000"]
    assert [row[4] for row in found] == ["0.500", "\N{EN DASH}", "1"]
    assert Listing("", ("a",), ()).texts == ()


def test_thin_differences_fill_their_histogram() -> None:
    assert _reach("log_age", np.array([-0.4, 0.1, 1.2])) == 2.0
    assert 0.01 < _reach("log_age", np.linspace(-0.01, 0.01, 999)) < 0.03
    assert _reach("log_age", np.zeros(0)) == 2.0


def test_sections_import_neither_torch_nor_dask() -> None:
    code = (
        "import sys, batchflow.report.page, batchflow.report.cluster_pictures\n"
        "assert not {'torch', 'dask', 'distributed'} & set(sys.modules), 'imported'"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_flags_are_explained(whole: RunFolder) -> None:
    text = page_of(whole)
    assert str(Flag.NO_DISTANCE.name) in text
    assert "No finite, positive distance: not inferred." in text
    assert all(band in text for band in BANDS)
    assert not any(isinstance(block, Absence) for block in in_brief(ReportData(open_run(whole.root))).blocks)
