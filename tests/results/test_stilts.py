"""What STILTS, and so TOPCAT, sees of the exports: units, UCDs, descriptions; needs Debian's `stilts`.

Debian's STILTS 3.4 reads ECSV where `starlink-ecsv-java` is installed, and has no reader of Parquet; a newer
one has, and is then tried on an export and on a run's own part.
"""

import csv
import io
import shutil
import subprocess

import pytest
from asked_run import SIZES, make_asked_run

from batchflow.paths import partition_folder
from batchflow.results.export import Request, export_run

pytestmark = pytest.mark.deploy
UNITS = {".fits": "dex(yr)", ".vot": "[yr]", ".ecsv": "dex(yr)", ".parquet": "[yr]"}
FORMATS = {".fits": "fits", ".vot": "votable", ".ecsv": "ecsv", ".csv": "csv", ".parquet": "parquet"}
COLUMNS = ("object_id", "ra", "log_age_q50")


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    if shutil.which("stilts") is None:
        pytest.skip("stilts is not installed")
    return make_asked_run(tmp_path_factory.mktemp("run"))


def stilts(*arguments):
    done = subprocess.run(["stilts", "-Xmx200m", *arguments], capture_output=True, text=True, check=False)
    if "No table handler available" in done.stderr or "Unknown format" in done.stderr:
        pytest.skip(f"this stilts has no {arguments[2]}")
    assert done.returncode == 0, done.stderr
    return done.stdout


def meta(path, kind):
    """Rows of STILTS's own account of the columns, by name."""
    shown = ("name", "class", "shape", "units", "ucd", "description")
    text = stilts("tpipe", f"in={path}", f"ifmt={kind}", f"cmd=meta {' '.join(shown)}", "ofmt=csv", "out=-")
    return {row["Name"]: row for row in csv.DictReader(io.StringIO(text))}


@pytest.mark.parametrize("kind", UNITS)
def test_an_export_says_what_its_columns_are(run, tmp_path, kind):
    path = tmp_path / f"a{kind}"
    export_run(run.root, path, Request(columns=COLUMNS))
    found = meta(path, FORMATS[kind])
    assert tuple(found) == COLUMNS
    age = found["log_age_q50"]
    assert (age["Class"], age["Units"], age["UCD"]) == ("Float", UNITS[kind], "time.age;stat.median")
    assert age["Description"] == "log10 of the age: posterior median"
    assert (found["ra"]["Units"], found["ra"]["UCD"]) == ("deg", "pos.eq.ra;meta.main")


@pytest.mark.parametrize("kind", [kind for kind in FORMATS if kind != ".csv"])
def test_draws_are_arrays(run, tmp_path, kind):
    path = tmp_path / f"a{kind}"
    export_run(run.root, path, Request("draws", ("object_id", "log_age")))
    assert meta(path, FORMATS[kind])["log_age"]["Class"] == "float[]"
    each = ("cmd=addcol n size(log_age)", "cmd=stats Name Minimum Maximum NGood", "ofmt=csv", "out=-")
    text = stilts("tpipe", f"in={path}", f"ifmt={FORMATS[kind]}", *each)
    n = next(row for row in csv.DictReader(io.StringIO(text)) if row["Name"] == "n")
    assert (int(n["NGood"]), int(n["Minimum"]), int(n["Maximum"])) == (sum(SIZES.values()), 0, 80)


def test_a_plain_text_is_a_table(run, tmp_path):
    export_run(run.root, tmp_path / "a.csv", Request(columns=COLUMNS))
    assert meta(tmp_path / "a.csv", "csv")["log_age_q50"]["Class"] == "Double"


def test_a_part_of_a_run_says_what_its_columns_are(run):
    found = meta(partition_folder(run.posterior, "628") / "part-00000.parquet", "parquet")
    assert found["galaxy"]["Class"] == "String"
    assert found["log_age_q50"]["Units"] == "[yr]"


def test_a_votable_is_valid(run, tmp_path):
    for table in ("posterior", "draws"):
        export_run(run.root, tmp_path / f"{table}.vot", Request(table))
        assert stilts("votlint", f"votable={tmp_path / table}.vot") == ""
