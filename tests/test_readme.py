"""The README's own examples, word for word, on the run that `make demo` leaves."""

import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")

pytestmark = pytest.mark.docs


def commands():
    lines = re.findall(r"^    (batchflow [a-z-]+ (?:jobs|runs)/.*)$", README, re.MULTILINE)
    return [line.split("  #")[0].strip() for line in lines]


@pytest.fixture(scope="module", autouse=True)
def demo():
    if not (ROOT / "runs" / "quickstart" / "posterior").is_dir():
        pytest.fail("runs/quickstart is absent: run `make demo` first")


def test_the_readme_shows_commands():
    shown = {"check", "run", "status", "query", "model", "model-card", "flags", "reweight", "population"}
    assert {command.split()[1] for command in commands()} == shown


@pytest.mark.parametrize("command", commands())
def test_command(command):
    # The README has the environment activated: its programs lie beside this Python.
    program, *arguments = shlex.split(command)
    if "reweight" in arguments:  # it never overwrites
        shutil.rmtree(ROOT / "runs" / "quickstart" / "reweighted", ignore_errors=True)
    found = Path(sys.executable).with_name(program)
    done = subprocess.run([found, *arguments], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout or done.stderr


@pytest.mark.parametrize("sql", re.search(r"```sql\n(.*?)```", README, re.DOTALL)[1].strip().split("\n\n"))
def test_query(sql):
    from batchflow.results.query import query

    assert query(ROOT / "runs" / "quickstart", sql).num_columns >= 2


def test_python(monkeypatch):
    monkeypatch.chdir(ROOT)
    blocks = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    assert len(blocks) == 1
    names = {}
    exec(compile(blocks[0], "README.md", "exec"), names)
    assert names["posterior"].summary.num_rows == 1
    assert 6 <= names["posterior"].summary["log_age_q50"][0].as_py() <= 10.14
    assert len(names["run"].posterior.to_pandas()) == 500


def test_the_layout_named_is_the_layout_made():
    folder = ROOT / "runs" / "quickstart"
    for line in re.findall(r"^    runs/NAME/(\S+)", README, re.MULTILINE):
        pattern = line.rstrip("/,").replace("=...", "=*")
        assert list(folder.glob(pattern)), f"{line} is not in {folder}"
