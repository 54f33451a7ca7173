"""From a file of a run, exported or not, to the command, the model and the catalogue behind it."""

import json
import sys

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import tomli_w
from toy_runs import add_part, gaussian_draws
from typer.testing import CliRunner

from batchflow.cli import app
from batchflow.commands.exchange import _files
from batchflow.errors import UserError
from batchflow.flow.description import write_description
from batchflow.made import command, made
from batchflow.paths import RunFolder
from batchflow.plan import Plan, Unit
from batchflow.results.export import Request, export_run
from batchflow.results.provenance import provenance
from batchflow.shards import read_footer, write_json, write_table, write_text

WEIGHTS, CATALOGUE = "a" * 64, "c" * 64
ENGINE = {"engine": "embedded", "extinction": "CCM89", "metallicity": 0.02}


@pytest.fixture
def run(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["/usr/bin/batchflow", "run", "my job.toml"])
    root = tmp_path / "run"
    widths = {"log_age": 0.1, "log_mass": 0.1, "ebv": 0.1}
    add_part(root, "g", gaussian_draws({"log_age": 7.0, "log_mass": 4.0, "ebv": 0.3}, widths, (3, 4), 1))
    folder = RunFolder(root)
    settings = {
        "weights": WEIGHTS,
        "prior": {"log_age": {"uniform": [6.0, 10.0]}},
        "catalogue": {"ngc628-c.v1": {"format": "legus", "sha256": [CATALOGUE]}},
    }
    plan = Plan("infer", settings, (), frozenset())
    for table in (folder.posterior, folder.draws):
        (path,) = table.glob("*/*")
        write_table(
            path, pq.read_table(path, partitioning=None), plan.footer(Unit("g/part-00000 1..3", (path,)))
        )
    mocks = Plan("mocks", {"seed": 1}, (), frozenset()).footer(Unit("shard-00000", ()))
    write_table(folder.shard(0), pa.table({"log_age": [7.0]}), mocks | {"engine": ENGINE})
    described = {"format": "batchflow model 2", "weights_sha256": WEIGHTS, "engine": ENGINE, "made": made()}
    write_description(folder.model, described | {"versions": {"torch": "9.9"}})
    write_json(folder.catalogue / "_index.json", {"settings": {}, "made": made()})
    entry = {"path": "/data/ngc628-c.v1.tab", "format": "legus"}
    write_text(folder.job, tomli_w.dumps({"name": "toy", "catalogue": [entry]}))
    return root


def check(found):
    assert [step["stage"] for step in found["commands"]] == ["mocks", "catalogue", "train", "infer"]
    assert {step["command"] for step in found["commands"]} == {"batchflow run 'my job.toml'"}
    assert found["model"]["weights_sha256"] == WEIGHTS
    assert found["model"]["versions"] == {"torch": "9.9"}
    assert found["engine"] == ENGINE
    assert found["made"]["versions"]["pyarrow"] == pa.__version__
    (catalogue,) = found["catalogues"]
    assert catalogue == {
        "survey": "ngc628-c.v1",
        "path": "/data/ngc628-c.v1.tab",
        "format": "legus",
        "sha256": [CATALOGUE],
    }
    assert found["job"]["name"] == "toy"


def test_from_a_posterior_and_from_draws(run):
    for table in ("posterior", "draws"):
        (path,) = (run / table).glob("*/*")
        check(provenance(path))
    assert provenance(run)["stage"] == "infer"


def test_from_a_mock_and_from_a_model(run):
    assert provenance(run / "mocks" / "shard-00000.parquet")["engine"] == ENGINE
    for path in (run / "model", run / "model" / "model.json"):
        found = provenance(path)
        assert found["model"]["weights_sha256"] == WEIGHTS
        assert found["commands"][0]["command"] == "batchflow run 'my job.toml'"


def test_each_stage_names_itself_and_what_it_rests_on(run):
    folder = RunFolder(run)
    part = folder.catalogue / "galaxy=g" / "part-00000.parquet"
    write_table(part, pa.table({"galaxy": ["g"]}), {"stage": "catalogue"})
    write_table(folder.history, pa.table({"step": [1]}), {"kind": "history"})
    again = folder.root / "reweighted" / "steep" / "posterior" / "galaxy=g" / "part-00000.parquet"
    before = read_footer(next(folder.posterior.glob("*/*")))[0]
    write_table(
        again, pa.table({"galaxy": ["g"]}), before | {"stage": "reweight", "made": made() | {"from": made()}}
    )
    trained = ["mocks", "catalogue", "train"]
    for path, steps in (
        (folder.shard(0), ["mocks"]),
        (part, ["catalogue"]),
        (folder.history, trained),
        (folder.model, trained),
        (again, [*trained, "infer", "reweight"]),
    ):
        found = provenance(path)
        assert [step["stage"] for step in found["commands"]] == steps
        assert found["made"]["versions"]["pyarrow"] == pa.__version__
        assert found["model"]["weights_sha256"] == WEIGHTS
        assert found["engine"] == ENGINE


def test_a_part_far_from_its_run_tells_what_it_holds(run, tmp_path):
    far = tmp_path / "far" / "part.parquet"
    far.parent.mkdir()
    far.write_bytes(next(RunFolder(run).posterior.glob("*/*")).read_bytes())
    found = provenance(far)
    assert found["model"] == {"weights_sha256": WEIGHTS}
    assert [item["sha256"] for item in found["catalogues"]] == [[CATALOGUE]]
    assert [step["stage"] for step in found["commands"]] == ["infer"]


def test_an_export_tells_it_all_far_from_its_run(run, tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["batchflow", "export", "run", "a.fits"])
    for kind in ("fits", "vot", "ecsv", "csv", "parquet"):
        path = tmp_path / "far" / f"a.{kind}"
        export_run(run, path, Request())
        found = provenance(path)
        check(found)
        assert found["export"]["command"] == "batchflow export run a.fits"


def test_a_model_that_was_trained_anew_is_not_taken_for_the_one_used(run):
    write_description(run / "model", {"format": "batchflow model 2", "weights_sha256": "b" * 64})
    (path,) = (run / "posterior").glob("*/*")
    assert provenance(path)["model"] == {
        "weights_sha256": WEIGHTS,
        "note": "model.json is of another model by now",
    }


def test_no_host_name_and_no_user_in_a_footer(run):
    (path,) = (run / "posterior").glob("*/*")
    found = read_footer(path)[0]["made"]
    assert set(found) == {"command", "date", "versions"}
    assert {"batchflow", "numpy", "torch", "python"} <= set(found["versions"])


@pytest.mark.parametrize(
    ("argv", "expected"),
    [
        (["/opt/bin/batchflow", "infer", "a b.toml"], "batchflow infer 'a b.toml'"),
        (["/x/batchflow/__main__.py", "status", "j.toml"], "batchflow status j.toml"),
        (["/usr/bin/pytest", "-x"], ""),
        ([""], ""),
    ],
)
def test_the_command_line(monkeypatch, argv, expected):
    monkeypatch.setattr(sys, "argv", argv)
    assert command() == expected


def test_the_command_prints_and_gives_json(run):
    (path,) = (run / "posterior").glob("*/*")
    text = CliRunner().invoke(app, ["provenance", str(path)]).stdout
    for words in (WEIGHTS, CATALOGUE, "batchflow run 'my job.toml'", "CCM89", "pyarrow"):
        assert words in text
    check(json.loads(CliRunner().invoke(app, ["provenance", str(path), "--json"]).stdout))


def test_each_file_stands_over_its_checksum():
    item = {"path": ["/data/a b.tab", "/data/c.tab"], "sha256": ["1", "2"]}
    assert _files(item) == ["/data/a b.tab", "sha256 1", "/data/c.tab", "sha256 2"]
    assert _files({"path": "/data/*.tab", "sha256": ["1", "2"]}) == ["/data/*.tab", "sha256 1", "sha256 2"]


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("a.csv", b"a,b\n1,2\n", "says nothing of where it comes from"),
        ("a.parquet", b"PAR1 cut short", "no whole Parquet file of batchflow"),
        ("a.vot", b"<?xml version='1.0'?><VOTABLE><cut", "no whole file of `batchflow export` or"),
        ("a.ecsv", b"# %ECSV 1.0\n# ---\na\n1\n", "no whole file of `batchflow export` or"),
        ("b.ecsv", b"# %ECSV 1.0\n# \xff\n", "no whole file of `batchflow export` or"),
        ("a.fits", b"SIMPLE  = cut", "no whole file of `batchflow export` or"),
        ("a.bin", b"", "says nothing"),
    ],
)
def test_files_that_say_nothing(tmp_path, name, content, words):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError, match=words):
        provenance(tmp_path / name)


def test_what_is_not_there(tmp_path):
    with pytest.raises(UserError, match="does not exist"):
        provenance(tmp_path / "a.fits")
    with pytest.raises(UserError, match="neither a run folder, a model folder nor"):
        provenance(tmp_path)
