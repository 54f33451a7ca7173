"""No pcigale, or a broken one: the user is told how to get it, before any worker starts."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path

import pytest

from batchflow.check import problems
from batchflow.cli import main
from batchflow.config import load_job
from batchflow.errors import UserError
from batchflow.physics.engine import open_engine

SETTINGS = {"engine": "cigale", "bands": ["wfc3_f275w"]}
JOB = """
name = "t"
output = "{output}"
[model]
engine = "cigale"
bands = ["wfc3_f275w", "wfc3_f555w"]
[noise]
depth = [-5.3, -4.3]
[mocks]
rows = 200
"""


@pytest.fixture
def absent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "pcigale", None)
    monkeypatch.setitem(__import__("sys").modules, "pcigale.warehouse", None)


def write_job(folder: Path, extra: str = "") -> Path:
    path = folder / "job.toml"
    path.write_text(JOB.format(output=folder / "run") + extra)
    return path


def test_pcigale_is_missing(absent: None) -> None:
    with pytest.raises(UserError, match=r"pcigale is not installed.*git clone https://gitlab.lam.fr/cigale"):
        open_engine(SETTINGS)


def test_check_says_so(absent: None, tmp_path: Path) -> None:
    (problem,) = problems(load_job(write_job(tmp_path)))
    assert problem.startswith('[model]: engine = "cigale": pcigale is not installed')


def test_exit_status_2_and_no_worker(
    absent: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("batchflow.cluster.connect", lambda *_: pytest.fail("a cluster was started"))
    monkeypatch.setattr("sys.argv", ["batchflow", "mocks", str(write_job(tmp_path))])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 2
    assert "gitlab.lam.fr" in capsys.readouterr().err.replace("\n", "")


def test_a_broken_pcigale(tmp_path: Path, old_cigale: str, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "pcigale"
    package.mkdir()
    (package / "__init__.py").write_text("from collections import Iterable\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(UserError, match=r"pcigale cannot be imported \(ImportError"):
        open_engine(SETTINGS)


def test_a_pcigale_whose_own_needs_are_missing(
    tmp_path: Path, old_cigale: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = tmp_path / "pcigale"
    package.mkdir()
    (package / "__init__.py").write_text("import a_package_that_is_not_there\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(UserError, match="pcigale is installed, but needs a_package_that_is_not_there"):
        open_engine(SETTINGS)


def test_the_database_is_missing(new_cigale: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(name: str) -> None:
        raise FileNotFoundError(f"database {name}")

    monkeypatch.setattr(import_module("pcigale.data"), "SimpleDatabase", refuse)
    with pytest.raises(UserError, match=r"the database of pcigale cannot be read.*builds its database"):
        open_engine(SETTINGS)


def test_the_database_is_empty(old_cigale: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(import_module("pcigale.data").Database, "get_filter_names", lambda _: [])
    with pytest.raises(UserError, match="the database of pcigale has no filters"):
        open_engine(SETTINGS)


def test_a_prior_beyond_the_grid(new_cigale: str, tmp_path: Path) -> None:
    path = write_job(tmp_path, "[prior]\nlog_age = {uniform = [4.0, 10.0]}\n")
    assert problems(load_job(path)) == [
        "prior.log_age = [4, 10] goes beyond what the engine has, [5, 10.301]"
    ]


def test_a_parameter_without_a_prior(new_cigale: str, tmp_path: Path) -> None:
    path = write_job(tmp_path, '[model.cigale]\nmap = {metallicity = "bc03_ssp.metallicity"}\n')
    assert problems(load_job(path)) == ["prior.metallicity is missing: the engine varies it"]
