"""The catalogue of a run: many files as one, flags across all of them, doubts said aloud."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np
import phangs_files as make_phangs
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest

from batchflow import check, stages
from batchflow.catalogue import columns as columns_module
from batchflow.catalogue import read, repeated
from batchflow.catalogue.galaxies import plain_name
from batchflow.catalogue.index import survey_pieces, surveys_of_entries
from batchflow.catalogue.ingest import ensure_catalogue
from batchflow.catalogue.normalise import RawCatalogue, complete
from batchflow.catalogue.read import CatalogueReader, read_catalogue, read_with_summary
from batchflow.catalogue.summary import Tally
from batchflow.config import parse_job
from batchflow.errors import UserError
from batchflow.paths import RunFolder
from batchflow.physics.bands import FOLDER, known_bands
from batchflow.pipeline import run_stages
from batchflow.schema import Flag
from batchflow.settings.catalogue import CatalogueSettings
from batchflow.train.task import make_noise

BANDS = ("wfc3_f275w", "acs_f435w")


def save(path, ids, galaxies=None, **others):
    n_rows = len(ids)
    found = {"object_id": ids, "galaxy": galaxies or ["NGC628"] * n_rows, "distance_mpc": [9.9] * n_rows}
    for i, band in enumerate(BANDS):
        found[f"flux_{band}"] = [1e-3 * (i + 1) * (j + 1) for j in range(n_rows)]
        found[f"error_{band}"] = [1e-4] * n_rows
    path.parent.mkdir(parents=True, exist_ok=True)
    pyarrow.csv.write_csv(pa.table(found | others), path)
    return path


def make_job(folder, *entries, rows_per_part=3):
    values = {
        "name": "job",
        "output": str(folder / "run"),
        "model": {"bands": list(BANDS)},
        "infer": {"rows_per_part": rows_per_part},
        "catalogue": [dict(entry, path=str(entry["path"])) for entry in entries],
    }
    return parse_job(values, "job", folder)


def make(job):
    parts = ensure_catalogue(job, RunFolder(job.output), "resume")
    return parts, pa.concat_tables([pq.ParquetFile(part.path).read() for part in parts])


@pytest.fixture
def small_pieces(monkeypatch):
    """Pieces of two rows, so that small files come in several."""
    monkeypatch.setattr(columns_module, "PIECE_CELLS", 2 * 7)


def test_files_of_a_pattern_are_one_catalogue(tmp_path, small_pieces):
    for name, first in (("b", 10), ("a", 0)):
        save(tmp_path / "fields" / f"{name}.csv", [f"{first + i:03d}" for i in range(5)])
    job = make_job(tmp_path, {"path": "fields/*.csv", "name": "both"})
    parts, table = make(job)
    assert table["object_id"].to_pylist() == [f"{i:03d}" for i in (*range(5), *range(10, 15))]
    assert [part.n_rows for part in parts] == [3, 3, 3, 1]
    assert set(table["survey"].to_pylist()) == {"both"}
    assert not table["flags"].to_numpy().any()


def test_order_of_entries_and_size_of_pieces_do_not_matter(tmp_path, monkeypatch):
    galaxies = ["b", "a", "b", "a", "a"]
    paths = [save(tmp_path / f"{name}.csv", [f"{name}{i}" for i in range(5)], galaxies) for name in "xyz"]
    found = []
    for number, (order, cells) in enumerate([((0, 1, 2), 10**6), ((2, 0, 1), 7), ((1, 2, 0), 21)]):
        monkeypatch.setattr(columns_module, "PIECE_CELLS", cells)
        job = make_job(tmp_path / str(number), *({"path": paths[i]} for i in order))
        parts, _ = make(job)
        found.append([(part.path.name, part.path.read_bytes()) for part in parts])
    assert found[0] == found[1] == found[2]


def test_ids_repeated_across_pieces_files_and_surveys(tmp_path, small_pieces):
    save(tmp_path / "a.csv", ["1", "2", "3", "4", "1", "5"])
    save(tmp_path / "b.csv", ["9", "3", "8"])
    save(tmp_path / "c.csv", ["5", "4"], ["NGC628", "other"])
    job = make_job(tmp_path, {"path": "[ab].csv", "name": "ab"}, {"path": "c.csv"}, rows_per_part=2)
    run = RunFolder(job.output)
    parts, table = make(job)
    repeated_rows = table.filter(pa.array(table["flags"].to_numpy() & Flag.DUPLICATE_ID != 0))
    flagged = list(zip(*(repeated_rows[name].to_pylist() for name in ("survey", "object_id")), strict=True))
    assert flagged == [("ab", "1"), ("ab", "3"), ("ab", "1"), ("ab", "5"), ("ab", "3"), ("c", "5")]
    assert [part.path.name for part in parts] == [
        *(f"part-{i:05d}.parquet" for i in range(5)),
        "part-00000.parquet",
    ]
    assert not list(run.catalogue.glob(".*"))
    assert ensure_catalogue(job, run, "resume") == parts


def test_summary_counts_repeated_ids(tmp_path, capsys):
    save(tmp_path / "a.csv", ["1", "2"])
    save(tmp_path / "b.csv", ["2", "3", "3"])
    make(make_job(tmp_path, {"path": "a.csv"}, {"path": "b.csv"}))
    said = capsys.readouterr().err
    assert "a: 2 rows" in said
    assert "flags: DUPLICATE_ID (1)" in said
    assert "flags: DUPLICATE_ID (3)" in said


def test_part_without_repeated_ids_is_written_once(tmp_path, monkeypatch):
    written = []
    real = repeated.write_table
    monkeypatch.setattr(
        repeated, "write_table", lambda path, *rest: (written.append(path.name), real(path, *rest))
    )
    save(tmp_path / "a.csv", ["1", "2", "3", "4", "5", "6", "6"])
    make(make_job(tmp_path, {"path": "a.csv"}, rows_per_part=2))
    assert sorted(written) == ["part-00002.parquet", "part-00003.parquet"]


def test_tallies_merge_in_any_order(tmp_path, small_pieces):
    path = save(tmp_path / "a.csv", list("abcdefg"), ["x", "y", "x", "x", "y", "z", "x"])
    entry = CatalogueSettings(path=path)
    whole = CatalogueReader(entry, BANDS)
    tallies = []
    for piece in whole.pieces():
        single = CatalogueReader(entry, BANDS)
        single.tally.galaxies.add(piece)
        single.tally.surveys.update(piece["survey"].to_pylist())
        single.tally.n_rows = single.tally.n_read = piece.num_rows
        tallies.append(single.tally)
    total = Tally()
    for tally in reversed(tallies):
        total.merge(tally)
    assert total.n_rows == whole.tally.n_rows == 7
    assert total.galaxies.counts() == whole.tally.galaxies.counts() == {"x": 4, "y": 2, "z": 1}
    assert total.surveys == whole.tally.surveys


def test_survey_pieces_are_every_row_once(tmp_path):
    save(tmp_path / "a.csv", list("abcde"), ["x", "y", "x", "y", "x"])
    save(tmp_path / "b.csv", list("fghi"), ["y", "x", "y", "y"])
    parts, table = make(make_job(tmp_path, {"path": "a.csv"}, {"path": "b.csv"}, rows_per_part=2))
    paths = [str(part.path) for part in parts]
    found = [(name, id_) for name, piece in survey_pieces(paths) for id_ in piece["object_id"].to_pylist()]
    assert sorted(id_ for _, id_ in found) == sorted(table["object_id"].to_pylist()) == list("abcdefghi")
    assert Counter(name for name, _ in found) == {"a": 5, "b": 4}


def test_each_galaxy_can_be_a_survey_of_its_own(tmp_path):
    path = save(tmp_path / "all.csv", list("abcd"), ["M31", "M33", "M31", "M33"])
    parts, table = make(make_job(tmp_path, {"path": path, "noise_by": "galaxy"}))
    assert table["survey"].to_pylist() == ["all-M31", "all-M31", "all-M33", "all-M33"]
    assert surveys_of_entries([part.path for part in parts]) == {"all": ["all-M31", "all-M33"]}


def test_a_systematic_error_holds_for_every_survey_of_its_entry(tmp_path):
    for target in ("ngc1566", "ngc628c"):
        make_phangs.save(make_phangs.obs(target), tmp_path / make_phangs.file_name(target, "obs"))
    path = save(tmp_path / "plain.csv", ["1", "2"])
    job = make_job(
        tmp_path,
        {"path": "*obs*.fits", "format": "phangs", "name": "phangs", "systematic": 0.1},
        {"path": path, "bands": BANDS},
    )
    job = job.model_copy(update={"model": job.model.model_copy(update={"bands": known_bands()})})
    parts = ensure_catalogue(job, RunFolder(job.output), "resume")
    surveys = surveys_of_entries([part.path for part in parts])
    assert surveys == {"phangs": ["phangs-ngc1566", "phangs-ngc628c"], "plain": ["plain"]}
    noise = make_noise(job, [str(part.path) for part in parts])
    assert noise.surveys == ("phangs-ngc1566", "phangs-ngc628c", "plain")
    assert noise.systematic[:3, 0].tolist() == [0.1, 0.1, 0.05]


def test_a_file_in_two_catalogues_is_met_before_anything_runs(tmp_path):
    path = save(tmp_path / "c.csv", ["1", "2"], class_=[1, 2])
    job = make_job(tmp_path, {"path": path, "name": "a"}, {"path": "*.csv", "name": "b"})
    message = "c.csv is in two catalogues, 'a' and 'b': every cluster would count twice"
    with pytest.raises(UserError, match=message):
        make(job)
    assert sum(message in text for text in check.problems(job)) == 1
    apart = make_job(
        tmp_path, {"path": path, "name": "a", "classes": [1]}, {"path": "*.csv", "name": "b", "classes": [2]}
    )
    assert check.problems(apart) == []
    assert make(apart)[1]["survey"].to_pylist() == ["a", "b"]


def test_foreground_in_a_band_of_ones_own(tmp_path):
    """A curve that is a shipped one under another name has its coefficient."""
    curve = np.loadtxt(FOLDER / "acs_f435w.dat")
    np.savetxt(tmp_path / "mine.dat", curve)
    path = save(tmp_path / "c.csv", ["1", "2"])
    mapping = {"flux": {"mine": "flux_acs_f435w"}, "error": {"mine": "error_acs_f435w"}}
    values = {
        "name": "job", "output": str(tmp_path / "run"),
        "model": {"bands": ["mine", *BANDS], "curves": {"mine": "mine.dat"}},
        "catalogue": [
            {"path": str(path), "foreground_ebv": 0.3, "bands": ["mine", BANDS[0]], "columns": mapping}
        ],
    }  # fmt: skip
    job = parse_job(values, "job", tmp_path)
    assert check.problems(job) == []
    _, table = make(job)
    shipped = read_catalogue(CatalogueSettings(path=path, foreground_ebv=0.3), BANDS)
    assert table["flux_mine"].to_numpy() == pytest.approx(shipped["flux_acs_f435w"].to_numpy())
    assert table["flux_mine"][0].as_py() > 1.1 * 2e-3


def test_pieces_without_a_distance_are_flagged(tmp_path, small_pieces):
    path = save(tmp_path / "c.csv", [f"{i}" for i in range(6)], distance_mpc=[None] * 4 + [9.9] * 2)
    table = read_catalogue(CatalogueSettings(path=path), BANDS)
    assert [bool(flag & Flag.NO_DISTANCE) for flag in table["flags"].to_pylist()] == [True] * 4 + [False] * 2


def warnings_of(tmp_path, ids, galaxies, **others):
    path = save(tmp_path / "w.csv", ids, galaxies, **others)
    return read_with_summary(CatalogueSettings(path=path), BANDS)[1].warnings


def test_two_galaxies_under_one_name(tmp_path):
    (place,) = warnings_of(tmp_path, ["1", "2"], ["g", "g"], ra=[10.0, 12.0], dec=[5.0, 5.0])
    assert "'g': positions 2 degrees apart" in place
    (distance,) = warnings_of(tmp_path, ["1", "2"], ["g", "g"], distance_mpc=[4.0, 9.9])
    assert "'g': distances from 4 to 9.9 Mpc" in distance
    assert not warnings_of(tmp_path, ["1", "2"], ["g", "g"], ra=[359.95, 0.05], dec=[5.0, 5.0])
    near = {"ra": [20.0, 28.0], "dec": [-70.0, -66.0], "distance_mpc": [0.05, 0.05]}
    assert not warnings_of(tmp_path, ["1", "2"], ["LMC", "LMC"], **near)


def test_one_galaxy_under_two_names_is_not_merged(tmp_path, capsys):
    (text,) = warnings_of(tmp_path, ["1", "2", "3"], ["NGC 628", "ngc0628", "NGC6280"])
    assert "'NGC 628', 'ngc0628' differ in spelling alone" in text
    save(tmp_path / "a.csv", ["1"], ["NGC628"])
    save(tmp_path / "b.csv", ["1"], ["NGC 0628"])
    _, table = make(make_job(tmp_path, {"path": "a.csv"}, {"path": "b.csv"}))
    assert table["galaxy"].to_pylist() == ["NGC 0628", "NGC628"]
    assert "warning: galaxies 'NGC 0628', 'NGC628' differ in spelling alone" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "plain"),
    [
        ("NGC 0628", "ngc628"),
        ("ngc628", "ngc628"),
        ("NGC-6280", "ngc6280"),
        ("M 101", "m101"),
        ("I Zw 018", "izw18"),
        ("NGC 1003", "ngc1003"),
        ("0", "0"),
    ],
)
def test_plain_names(name, plain):
    assert plain_name(name) == plain


def test_foreground_is_taken_out(tmp_path):
    path = save(tmp_path / "a.csv", ["1", "2"])
    before = read_catalogue(CatalogueSettings(path=path), BANDS)
    after = read_catalogue(CatalogueSettings(path=path, foreground_ebv=0.3), BANDS)
    # Schlafly & Finkbeiner (2011), table 6, over their 0.86.
    for band, coefficient in {"wfc3_f275w": 5.487 / 0.86, "acs_f435w": 3.610 / 0.86}.items():
        for name in (f"flux_{band}", f"error_{band}"):
            ratio = after[name].to_numpy() / before[name].to_numpy()
            assert 2.5 * np.log10(ratio) == pytest.approx(0.3 * coefficient, rel=0.05)
    assert after["foreground_ebv"].to_pylist() == [0.3, 0.3]
    assert before["foreground_ebv"].to_pylist() == [0.0, 0.0]


def test_distance_errors_of_the_job_fill_in_those_of_the_file(tmp_path):
    path = save(tmp_path / "a.csv", ["1", "2"])
    found = read_catalogue(CatalogueSettings(path=path, distance_error_mpc=0.5), BANDS)
    assert found["distance_error_mpc"].to_pylist() == [0.5, 0.5]
    plain = read_catalogue(CatalogueSettings(path=path), BANDS)
    assert np.isnan(plain["distance_error_mpc"].to_numpy()).all()


def test_distance_errors_of_the_reader_come_first():
    entry = CatalogueSettings(path="x", distance_error_mpc=0.5)
    unknown = np.full(2, np.nan)
    raw = RawCatalogue(["g"] * 2, ["1", "2"], unknown, unknown, unknown, {}, {})
    found = complete(replace(raw, distance_error_mpc=np.array([0.1, np.nan])), entry)
    assert found.distance_error_mpc.tolist() == [0.1, 0.5]


def test_limits_at_the_sigma_of_the_job(tmp_path):
    path = save(tmp_path / "a.csv", ["1"], limit_acs_f435w=[True], error_acs_f435w=pa.nulls(1, pa.float64()))
    found = read_catalogue(CatalogueSettings(path=path, limit_sigma=5.0), BANDS)
    assert found["error_acs_f435w"].to_pylist() == pytest.approx([2e-3 / 5])


def test_survey_of_two_entries_is_refused(tmp_path, monkeypatch):
    table_reader = read.READERS["table"]

    def both(path, entry, bands):
        for raw in table_reader(path, entry, bands):
            yield replace(raw, survey=["same"] * len(raw.object_id))

    monkeypatch.setattr(read, "READERS", {"table": both})
    save(tmp_path / "a.csv", ["1"])
    save(tmp_path / "b.csv", ["2"])
    with pytest.raises(UserError, match=r"survey 'same' is in two catalogues, 'a' and 'b'"):
        make(make_job(tmp_path, {"path": "a.csv"}, {"path": "b.csv"}))


def test_check_reads_each_catalogue_once(tmp_path, monkeypatch):
    save(tmp_path / "a.csv", ["1", "2"])
    job = make_job(tmp_path, {"path": "a.csv"})
    opened = []
    real = CatalogueReader.pieces
    monkeypatch.setattr(
        CatalogueReader, "pieces", lambda self: (opened.append(self.entry.survey), real(self))[1]
    )
    report = check.examine(job)
    assert report.problems == []
    assert report.description["clusters"] == "a 2"
    assert opened == ["a"]


def test_check_of_a_large_catalogue_says_that_it_read_the_beginning(tmp_path, monkeypatch, small_pieces):
    save(tmp_path / "a.csv", ["1", "2", "3"])
    monkeypatch.setattr(check, "LARGEST", 10)
    report = check.examine(make_job(tmp_path, {"path": "a.csv"}))
    assert "more than 2 (0.0 GB; only its beginning was read)" in report.description["clusters"]


def test_error_deep_in_a_file_comes_before_any_stage(tmp_path, monkeypatch):
    save(tmp_path / "a.csv", ["1", "2"], error_acs_f435w=["0.1", "often"])
    job = make_job(tmp_path, {"path": "a.csv"})
    monkeypatch.setattr("batchflow.pipeline.stage_function", lambda name: pytest.fail(f"{name} began"))
    with pytest.raises(UserError, match=r"'error_acs_f435w', line 3: found 'often'"):
        run_stages(job, ("mocks", "train"), "resume")


def test_catalogue_is_made_anew_after_a_break(tmp_path, small_pieces):
    save(tmp_path / "a.csv", list("abcde"))
    job = make_job(tmp_path, {"path": "a.csv"})
    run = RunFolder(job.output)
    parts, _ = make(job)
    before = [part.path.read_bytes() for part in parts]
    (run.catalogue / "_index.json").unlink()
    parts[0].path.write_bytes(b"half")
    again, _ = make(job)
    assert again == parts
    assert [part.path.read_bytes() for part in again] == before


def test_settings_know_every_file(tmp_path):
    save(tmp_path / "a.csv", ["1"])
    save(tmp_path / "b.csv", ["2"])
    job = make_job(tmp_path, {"path": "*.csv", "name": "s"})
    found = stages.catalogue_settings(job)["catalogue"]["s"]
    assert found["files"] == ["a.csv", "b.csv"]
    assert len(set(found["sha256"])) == 2
    save(tmp_path / "b.csv", ["3"])
    assert stages.catalogue_settings(job)["catalogue"]["s"]["sha256"] != found["sha256"]


@pytest.mark.parametrize(
    ("path", "survey"),
    [("fields/*.fits", "fields"), ("m33_*.csv.gz", "m33"), ("a.fits.gz", "a"), ("ngc628.ecsv", "ngc628")],
)
def test_default_names_of_surveys(path, survey):
    assert CatalogueSettings(path=path).survey == survey
