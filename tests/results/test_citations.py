"""What is cited is what was used; every option of the engine has its papers."""

import re
from pathlib import Path
from typing import get_args

import pytest
import tomli_w
import yaml
from typer.testing import CliRunner

from batchflow.cli import app
from batchflow.errors import UserError
from batchflow.physics.dust import LAWS
from batchflow.physics.engine import ENGINES
from batchflow.results import citations as module
from batchflow.results.citations import citations
from batchflow.results.references import REFERENCES
from batchflow.settings.catalogue import CatalogueSettings
from batchflow.settings.train import FlowSettings

BANDS = ["wfc3_f275w", "wfc3_f555w"]


def cited(folder, model=None, catalogue=(), **sections):
    job = {"model": {"bands": BANDS} | (model or {}), "catalogue": list(catalogue)} | sections
    (folder / "job.toml").write_text(tomli_w.dumps(job))
    return {item.key: item.purpose for item in citations(folder)}


def test_every_option_has_its_papers():
    assert set(module.LAW_KEYS) == set(LAWS)
    assert set(module.ENGINE_KEYS) == set(ENGINES)
    assert set(module.FORMAT_KEYS) == set(get_args(CatalogueSettings.model_fields["format"].annotation))
    assert set(module.FLOW_KEYS) == set(get_args(FlowSettings.model_fields["kind"].annotation))


def test_every_law_names_the_papers_of_its_title():
    for name, law in LAWS.items():
        years = {REFERENCES[key].year for key in module.LAW_KEYS[name]}
        assert years == {int(year) for year in re.findall(r"\b(?:19|20)\d\d\b", law.title)} | (
            {1994} if name == "CCM89" else set()
        )


def test_a_simple_job(tmp_path):
    found = cited(tmp_path)
    assert {"walter2026", "bruzual2003", "kroupa2001", "cardelli1989", "odonnell1994", "durkan2019"} <= set(
        found
    )
    absent = {"ferland2017", "boquien2019", "adamo2017", "rodrigo2012", "bohlin2014", "hogg2010", "talts2018"}
    assert not absent & set(found)


def test_options_add_their_papers(tmp_path):
    assert "ferland2017" in cited(tmp_path, {"covering": 0.5})
    assert "ferland2017" in cited(tmp_path, prior={"covering": {"choice": [0.0, 0.5]}})
    assert "gordon2023" in cited(tmp_path, {"extinction": "G23"})
    assert "cardelli1989" not in cited(tmp_path, {"extinction": "G23"})
    assert "dinh2017" in cited(tmp_path, flow={"kind": "affine"})
    assert "dax2023" not in cited(tmp_path, infer={"certify": False})
    cigale = cited(tmp_path, {"engine": "cigale"})
    assert {"boquien2019", "noll2009"} <= set(cigale)
    assert not {"gordon2024", "kroupa2001"} & set(cigale)
    (tmp_path / "population").mkdir()
    (tmp_path / "validation").mkdir()
    assert {"hogg2010", "talts2018", "lemos2023", "lopezpaz2017"} <= set(cited(tmp_path))
    assert "boquien2019" not in cited(tmp_path)
    (tmp_path / "fit").mkdir()
    assert "boquien2019" in cited(tmp_path)
    assert "turner2021" not in cited(tmp_path)
    assert "turner2021" in cited(tmp_path, fit={"preset": "phangs"})


def test_zero_points_are_cited_where_they_were_used(tmp_path):
    legus = {"path": "a.tab", "format": "legus"}
    found = cited(tmp_path, catalogue=[legus])
    assert {"calzetti2015", "adamo2017", "rodrigo2012"} <= set(found)
    assert "bohlin2014" not in found
    assert "bohlin2014" in cited(tmp_path, {"bands": [*BANDS, "nircam_f200w"]}, [legus])
    own = {"path": "a.csv", "unit": "Vega", "zero_points": dict.fromkeys(BANDS, 0.1)}
    assert "rodrigo2012" not in cited(tmp_path, catalogue=[own])
    assert "rodrigo2012" not in cited(tmp_path, catalogue=[{"path": "a.csv", "unit": "mJy"}])


def test_the_references_themselves():
    assert REFERENCES["bruzual2003"].text() == "Bruzual & Charlot 2003, MNRAS, 344, 1000"
    assert REFERENCES["cardelli1989"].text() == "Cardelli, Clayton & Mathis 1989, ApJ, 345, 245"
    assert REFERENCES["walter2026"].text() == "Walter et al. 2026, A&A, 706, A201 (arXiv:2508.00736)"
    for key, found in REFERENCES.items():
        assert str(found.year) in key
        assert found.page or found.arxiv or found.where.startswith("IVOA")
    used = {line.partition(":")[0] for keys in module.ENGINE_KEYS.values() for line in keys}
    used |= {key for keys in module.LAW_KEYS.values() for key in keys}
    assert used <= set(REFERENCES)


def test_bibtex_is_whole(tmp_path):
    cited(tmp_path, {"covering": 0.5})
    text = CliRunner().invoke(app, ["cite", str(tmp_path), "--bibtex"]).stdout
    entries = re.findall(r"^@(article|inproceedings)\{(\w+),$", text, re.MULTILINE)
    assert {key for _, key in entries} == {item.key for item in citations(tmp_path)}
    assert text.count("{") == text.count("}")
    assert text.isascii()


def test_a_folder_without_a_job(tmp_path):
    with pytest.raises(UserError, match=r"no run folder: it has no job\.toml"):
        citations(tmp_path)
    (tmp_path / "job.toml").write_text("[model")
    with pytest.raises(UserError, match="is not TOML"):
        citations(tmp_path)


def test_the_citation_file_names_the_paper_of_the_method():
    text = (Path(__file__).resolve().parents[2] / "CITATION.cff").read_text(encoding="utf-8")
    paper, known = yaml.safe_load(text)["references"][0], REFERENCES["walter2026"]
    assert (paper["doi"], paper["title"], paper["year"]) == (known.doi, known.title, known.year)
    assert (paper["volume"], paper["start"]) == (known.volume, known.page)
    assert [author["family-names"] for author in paper["authors"][:3]] == ["Walter", "Ksoll", "Klessen"]
