"""Another prior from stored draws: laws, closed forms, and refusals."""

import json
import shutil

import numpy as np
import pyarrow as pa
import pyarrow.dataset as ds
import pytest
from exact_models import photometry, train_model
from scipy.stats import norm
from toy_runs import PRIOR, add_part, flux_table, gaussian_draws, toy_draws

from batchflow import schema
from batchflow.errors import UserError
from batchflow.infer.part import infer_part
from batchflow.infer.posterior import TABLE_FILE
from batchflow.paths import RunFolder
from batchflow.plan import flatten
from batchflow.results.query import query
from batchflow.results.reweight import reweight_run
from batchflow.results.stored import draws_files, read_draws
from batchflow.schema import Flag
from batchflow.settings.prior import PriorSettings
from batchflow.shards import read_footer, write_table

CENTRES = {"log_age": 8.0, "log_mass": 4.0, "ebv": 0.6}
TRUE_PRIOR = {
    "log_age": {"uniform": (7.0, 9.0)},
    "log_mass": {"uniform": (2.0, 8.0)},
    "ebv": {"uniform": (0.0, 0.6)},
}
WIDTHS = {"log_age": 0.3, "log_mass": 0.4, "ebv": 0.1}


@pytest.fixture
def run(tmp_path):
    folder = tmp_path / "run"
    add_part(folder, "NGC 1", gaussian_draws(CENTRES, WIDTHS, (6, 8000), seed=1))
    weighted = gaussian_draws(CENTRES, WIDTHS, (3, 4000), seed=2)
    add_part(folder, "../b", toy_draws(weighted.values, np.random.default_rng(3).normal(0, 1, (3, 4000))))
    flux_table().save(folder / "model" / TABLE_FILE)
    return folder


def posterior(folder):
    return ds.dataset(folder / "posterior", format="parquet").to_table().sort_by("object_id")


def column(folder, name):
    return posterior(folder)[name].to_numpy(zero_copy_only=False)


def weights(folder):
    found = [read_draws(ds.dataset(path, format="parquet").to_table()) for path in draws_files(folder)]
    return [draws.weights for draws in found]


def test_the_runs_own_prior_changes_nothing_it_knows(run):
    new, figures = reweight_run(run, ["log_mass.uniform=[2, 8]"], "same")
    assert new == run / "reweighted" / "same"
    assert figures["clusters"] == figures["inferred"] == 9
    assert (figures["too_few_draws"], figures["no_draw_left"]) == (0, 0)
    for before, after in zip(weights(run), weights(new), strict=True):
        assert after == pytest.approx(before, rel=1e-5)
    left_out = {"log_age_map", "log_mass_map", "ebv_map", "ppc_chi2", "ppc_pvalue"}
    for name in set(posterior(run).column_names) - left_out:
        before, after = (posterior(folder)[name].to_pylist() for folder in (run, new))
        if pa.types.is_floating(posterior(run).schema.field(name).type):
            assert after == pytest.approx(before, abs=2e-4, nan_ok=True), name
        elif not name.startswith("mode_"):
            assert after == before, name
    assert all(np.isnan(column(new, name)).all() for name in left_out)


@pytest.fixture(scope="module")
def inferred(tmp_path_factory):
    """A run of one part with a distance error, whose catalogue and model are there."""
    folder = tmp_path_factory.mktemp("inferred")
    prior = PriorSettings.model_validate(TRUE_PRIOR)
    model = train_model(folder, TRUE_PRIOR, rows=2000)
    n, run = 6, RunFolder(folder)
    seen = [photometry(model, {"log_age": 8.0, "ebv": 0.2, "log_mass": 4.5}, 5.0 + 5 * i) for i in range(n)]
    flux, error = (np.stack(values) for values in zip(*seen, strict=True))
    flux[0, 1] *= 4  # no model fits
    columns = {"galaxy": ["G"] * n, "survey": [""] * n, "object_id": [str(i) for i in range(n)]}
    columns |= {"distance_mpc": [10.0] * n, "distance_error_mpc": [1.0] * n}
    columns |= {"class_": [1] * n, "flags": [0] * n}
    for i, band in enumerate(model.bands):
        columns |= {f"flux_{band}": flux[:, i], f"error_{band}": error[:, i], f"limit_{band}": [False] * n}
    wanted = schema.catalogue_schema(model.bands, schema.PUBLISHED)
    arrays = [pa.array(columns.get(item.name, [np.nan] * n)).cast(item.type) for item in wanted]
    place = "galaxy=G/part-00000.parquet"
    write_table(run.catalogue / place, pa.Table.from_arrays(arrays, schema=wanted), {})
    settings = {"weights": model.network.weights_sha256, "seed": 3, "infer.min_efficiency": 0.05}
    footer = {"settings": settings | flatten({"prior": prior.model_dump(mode="json")}), "fingerprint": "f"}
    how = {"model": str(run.model), "draws": 256, "certify": True, "min_efficiency": 0.05}
    how |= {"max_draws": 256, "grid": "never"} | {key: settings[key] for key in ("weights", "seed")}
    infer_part(str(run.catalogue / place), (str(run.posterior / place), str(run.draws / place)), how, footer)
    return folder


def test_best_draw_and_fit_come_back_from_catalogue_and_model(inferred):
    new, _ = reweight_run(inferred, ["log_mass.uniform=[2, 8]"], "same")
    for name in ("log_age_map", "log_mass_map", "ebv_map", "ppc_chi2", "ppc_pvalue", "flags"):
        assert np.isfinite(column(new, name)).all()
        assert column(new, name) == pytest.approx(column(inferred, name), rel=2e-3), name
    assert column(inferred, "flags")[0] & Flag.POOR_FIT
    steep, _ = reweight_run(new, ["log_mass.power_law=[-6, 2, 8]"], "steep")
    assert (column(steep, "log_mass_map") < column(new, "log_mass_map")).any()
    assert (column(steep, "ppc_chi2") >= column(new, "ppc_chi2") - 1e-3).mean() > 0.5


def test_a_model_trained_anew_tells_nothing_of_old_draws(inferred, tmp_path):
    shutil.copytree(inferred, tmp_path / "run", ignore=shutil.ignore_patterns("reweighted"))
    described = tmp_path / "run" / "model" / "model.json"
    described.write_text(described.read_text().replace('"weights_sha256": "', '"weights_sha256": "0'))
    new, _ = reweight_run(tmp_path / "run", ["log_mass.uniform=[2, 8]"], "same")
    assert np.isnan(column(new, "ppc_chi2")).all()
    assert np.isnan(column(new, "log_age_map")).all()


def test_a_normal_prior_gives_the_closed_form(run):
    mean, sigma = 3.5, 0.3
    new, _ = reweight_run(run, [f"log_mass.truncated_normal=[{mean}, {sigma}, 2, 8]"], "normal")
    precision = 1 / WIDTHS["log_mass"] ** 2 + 1 / sigma**2
    centre = (CENTRES["log_mass"] / WIDTHS["log_mass"] ** 2 + mean / sigma**2) / precision
    rows = slice(0, 6)
    own = [row["galaxy"] == "NGC 1" for row in posterior(new).select(["galaxy"]).to_pylist()]
    assert column(new, "log_mass_mean")[own][rows] == pytest.approx(centre, abs=0.02)
    assert column(new, "log_mass_std")[own][rows] == pytest.approx(precision**-0.5, abs=0.01)
    assert column(new, "log_age_mean")[own][rows] == pytest.approx(8.0, abs=0.02)
    # Evidence: the old posterior's mean of the ratio of the priors.
    both = norm.pdf(mean, CENTRES["log_mass"], np.hypot(sigma, WIDTHS["log_mass"]))
    wanted = -3.0 + np.log(6.0 * both / (norm.cdf((8 - mean) / sigma) - norm.cdf((2 - mean) / sigma)))
    assert column(new, "log_evidence")[own] == pytest.approx(wanted, abs=0.03)
    error = column(new, "log_evidence_error")[own]
    assert (error > 0).all()
    assert (np.abs(column(new, "log_evidence")[own] - wanted) < 5 * error).all()


def test_a_narrower_box_is_the_draws_cut(run):
    new, _ = reweight_run(run, ["log_mass.uniform=[3.8, 8]"], "cut")
    for path, after in zip(draws_files(run), weights(new), strict=True):
        old = read_draws(ds.dataset(path, format="parquet").to_table())
        wanted = np.where(old.values["log_mass"] >= 3.8, old.weights, 0)
        assert after == pytest.approx(wanted / wanted.sum(1, keepdims=True), rel=1e-4)
    assert column(new, "log_mass_q02").min() >= 3.8


def test_two_steps_are_one(run):
    first, _ = reweight_run(run, ["log_mass.power_law=[-2, 2, 7]"], "first")
    second, _ = reweight_run(first, ["log_age.normal=[8.2, 0.3]"], "second")
    assert second == first / "reweighted" / "second"
    # Given as one table as well; a normal prior reaches 5 standard deviations, within 6 to 10.
    whole, _ = reweight_run(run, ["log_mass.power_law=[-2,2,7]", "log_age={normal = [8.2, 0.3]}"], "whole")
    for a, b in zip(weights(second), weights(whole), strict=True):
        assert a == pytest.approx(b, rel=1e-4, abs=1e-9)
    for name in ("log_evidence", "log_mass_current_q50", "efficiency"):
        assert column(second, name) == pytest.approx(column(whole, name), abs=1e-3)
    back, _ = reweight_run(first, ["log_mass.uniform=[2, 7]"], "back")
    direct, _ = reweight_run(run, ["log_mass.uniform=[2, 7]"], "direct")
    for a, b in zip(weights(back), weights(direct), strict=True):
        assert a == pytest.approx(b, rel=1e-3, abs=1e-9)


def test_too_few_draws_are_flagged_and_none_is_not_inferred(run):
    new, figures = reweight_run(run, ["log_mass.uniform=[5.0, 5.2]"], "rare")
    flags = [Flag(int(value)) for value in column(new, "flags")]
    assert all(Flag.LOW_EFFICIENCY in value for value in flags)
    assert figures["too_few_draws"] == 9
    assert (column(new, "efficiency") < 0.01).all()
    new, figures = reweight_run(run, ["log_mass.uniform=[7.5, 8]"], "none")
    assert figures["no_draw_left"] == 9
    assert all(Flag.NOT_INFERRED in Flag(int(value)) for value in column(new, "flags"))
    assert np.isnan(column(new, "log_mass_q50")).all()
    assert posterior(new)["n_modes"].null_count == 9


def test_nothing_is_overwritten_and_a_failure_leaves_nothing(run, monkeypatch):
    new, _ = reweight_run(run, ["log_mass.uniform=[2, 7]"])
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    assert new.name == "log_mass.uniform_2_7"
    for out in ("", new.name, str(new), str(run)):
        with pytest.raises(UserError, match="is there already"):
            reweight_run(run, ["log_mass.uniform=[2, 7]"], out)
    monkeypatch.setattr("batchflow.results.reweight.write_json", _full_disk)
    with pytest.raises(UserError, match="No space left"):
        reweight_run(run, ["log_mass.uniform=[2, 6]"], "other")
    assert {path: path.read_bytes() for path in run.rglob("*") if path.is_file()} == before
    assert [path.name for path in (run / "reweighted").iterdir()] == [new.name]


def _full_disk(*_):
    raise OSError(28, "No space left on device")


def test_the_new_folder_is_a_run_that_says_where_it_comes_from(run, tmp_path):
    new, _ = reweight_run(run, ["ebv.uniform=[0, 1]"], str(tmp_path / "elsewhere" / "x"))
    assert query(
        new, "SELECT count(*) AS n FROM posterior JOIN draws USING (galaxy, object_id)"
    ).to_pylist() == [{"n": 9}]
    note = json.loads((new / "reweight.json").read_text())
    assert (new / note["source"]).resolve() == run
    footer, rows = read_footer(draws_files(new)[0])
    assert footer["settings"]["prior.ebv.uniform"] == [0.0, 1.0]
    assert footer["settings"]["prior.log_age.uniform"] == [6.0, 10.0]
    assert footer["settings"]["reweight.of"] == "f"
    assert (footer["stage"], rows) == ("reweight", 3)


@pytest.mark.parametrize(
    ("prior", "words"),
    [
        ("log_mass.uniform=[1, 9]", "1 to 2 and 8 to 9 would be lost"),
        ("log_mass.power_law=[-2, 2, 8.5]", "8 to 8.5 would be lost"),
        ("log_age.normal=[8, 1]", "draws from 6 to 10 only"),
        ("log_mas.uniform=[3, 4]", "did you mean 'log_mass'"),
        ("metallicity.uniform=[0.01, 0.02]", "has no stored draws"),
        ("log_mass.unifrm=[3, 4]", "unifrm"),
        ("log_mass.uniform=[4, 3]", "empty"),
        ("ebv.power_law=[-2, 0.1, 1]", "a power law is for"),
        ("ebv.fixed=0.3", "always inferred"),
        ("log_mass", "expected parameter.shape=value"),
        ("log_mass=3", "expected parameter.shape=value"),
    ],
)
def test_a_prior_that_cannot_be_is_one_message(run, prior, words):
    with pytest.raises(UserError, match="--prior") as caught:
        reweight_run(run, [prior], "x")
    assert words in str(caught.value)
    assert not (run / "reweighted").exists()


def test_a_run_without_draws_or_of_mixed_priors_is_refused(run, tmp_path):
    with pytest.raises(UserError, match="holds no draws"):
        reweight_run(tmp_path, ["ebv.uniform=[0, 1]"])
    with pytest.raises(UserError, match="no new prior given"):
        reweight_run(run, [])
    other = PRIOR.model_copy(update={"ebv": PRIOR.ebv.model_copy(update={"uniform": (0.0, 1.4)})})
    add_part(run, "NGC 1", gaussian_draws(CENTRES, WIDTHS, (2, 50), seed=5), other, part=1)
    with pytest.raises(UserError, match="under another prior than the other parts"):
        reweight_run(run, ["ebv.uniform=[0, 1]"])
    assert not list((run / "reweighted").iterdir())


def test_lists_of_unlike_lengths_are_read_row_by_row():
    table = pa.table(
        {
            "log_age": pa.array([[7.0, 8.0, 9.0], [], [6.5]], pa.list_(pa.float32())),
            "log_weight": pa.array(
                [*np.log([[0.5, 0.25, 0.25]]).tolist(), [], [0.0]], pa.list_(pa.float32())
            ),
        }
    )
    draws = read_draws(table.slice(0, 3))
    assert draws.weights[0] == pytest.approx([0.5, 0.25, 0.25])
    assert draws.weights[2] == pytest.approx([1, 0, 0])
    assert draws.values["log_age"][2].tolist() == [6.5] * 3
    assert np.isnan(draws.weights[1]).all()
    assert np.isnan(draws.values["log_age"][1]).all()
    assert draws.lengths.tolist() == [3, 0, 1]
