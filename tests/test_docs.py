"""Pages made from the code are as the code says; every link leads somewhere; every --help has an example."""

import re
import shlex
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from batchflow import docs
from batchflow.cli import app
from batchflow.commands.examples import EXAMPLES
from batchflow.config import Job, load_job
from batchflow.schema import Flag

ROOT = Path(__file__).resolve().parents[1]
PAGES = sorted((ROOT / "docs").glob("*.md"))
COMMANDS = typer.main.get_command(app).commands


@pytest.mark.parametrize("name", docs.pages())
def test_a_page_is_what_the_code_says(name):
    committed = (ROOT / "docs" / name).read_text(encoding="utf-8")
    assert committed == docs.pages()[name], "run: python -m batchflow.docs"


def test_help_of_the_pages_writes_none(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit):
        docs.main(["--help"])
    assert "python -m batchflow.docs" in capsys.readouterr().out
    assert list(tmp_path.iterdir()) == []
    docs.main(["new"])
    assert {path.name for path in (tmp_path / "new").iterdir()} == set(docs.pages())


def test_every_setting_is_described():
    for title, section in docs.sections(Job, ""):
        for name, info in section.model_fields.items():
            if docs._inner(info.annotation) is None:
                assert info.description, f"{title} {name}"
                assert f"`{info.alias or name}`" in docs.job_page()


def test_every_section_of_the_examples_is_there():
    page = docs.job_page()
    for path in sorted((ROOT / "jobs").glob("*.toml")):
        for heading in re.findall(r"^\[+[a-z_.]+\]+", path.read_text(encoding="utf-8"), re.MULTILINE):
            assert f"## {heading}" in page or heading.startswith("[model.curves") or "columns." in heading


def test_every_flag_is_there():
    for flag in Flag:
        assert f"| {flag.value} | `{flag.name}` |" in docs.columns_page()


@pytest.mark.parametrize("page", [*PAGES, ROOT / "README.md"], ids=lambda path: path.name)
def test_links_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)]+)\)", page.read_text(encoding="utf-8")):
        if not target.startswith("http"):
            assert (page.parent / target.partition("#")[0]).exists(), target


@pytest.mark.parametrize("page", [*PAGES, ROOT / "README.md"], ids=lambda path: path.name)
def test_files_and_modules_named_are_there(page):
    text = page.read_text(encoding="utf-8")
    for name in re.findall(r"`((?:batchflow|jobs|deploy|tests|docs)/[\w./-]+)`", text):
        assert (ROOT / name).exists(), name


@pytest.mark.parametrize("name", COMMANDS)
def test_help_has_an_example_that_parses(name):
    shown = CliRunner(env={"COLUMNS": "200", "TERMINAL_WIDTH": "200"}).invoke(app, [name, "--help"])
    assert shown.exit_code == 0
    assert "Example: batchflow" in shown.stdout
    program, found, *arguments = shlex.split(EXAMPLES[name])
    assert (program, found) == ("batchflow", name)
    context = COMMANDS[name].make_context(name, list(arguments))
    assert context.params
    option = next((word for word in arguments if word.startswith("--")), None)
    assert option is None or option in shown.stdout


def test_overrides_in_examples_are_settings():
    for line in EXAMPLES.values():
        words = shlex.split(line)
        given = [words[i + 1] for i, word in enumerate(words) if word == "--set"]
        load_job(ROOT / "jobs" / "quickstart.toml", given)
