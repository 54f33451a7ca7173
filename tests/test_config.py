"""The job file: what is right is kept, what is wrong is named."""

from pathlib import Path

import pytest

from batchflow import stages
from batchflow.config import load_job
from batchflow.errors import UserError

MINIMAL = """
name = "small"
output = "runs/small"
[model]
bands = ["wfc3_f275w", "wfc3_f336w", "wfc3_f438w", "wfc3_f555w", "wfc3_f814w"]
"""


def write(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "job.toml"
    path.write_text(text)
    return path


def test_defaults_are_the_documented_ones(tmp_path):
    job = load_job(write(tmp_path, MINIMAL))
    assert job.prior.boxes() == {"log_age": (6.0, 10.14), "log_mass": (2.0, 8.0), "ebv": (0.0, 1.5)}
    assert job.model.engine == "embedded"
    assert job.cluster.site == "local"


def test_input_paths_are_relative_to_the_job_file_and_output_to_the_working_directory(tmp_path):
    job = load_job(write(tmp_path, MINIMAL + '[[catalogue]]\npath = "sub/a.csv"\n'))
    assert job.catalogue[0].path == (tmp_path / "sub" / "a.csv").resolve()
    assert job.output == Path("runs/small")


def test_overrides_win(tmp_path):
    assert load_job(write(tmp_path, MINIMAL), ["mocks.rows=77", "seed=5"]).mocks.rows == 77


@pytest.mark.parametrize(
    ("extra", "words"),
    [
        ("[mocks]\nrow = 3\n", ["unknown key mocks.row", "'rows'"]),
        ("[mock]\nrows = 3\n", ["unknown key mock", "'mocks'"]),
        ('[mocks]\nrows = "many"\n', ["mocks.rows", "'many'", "integer"]),
        ("[mocks]\nrows = -4\n", ["mocks.rows", "-4", "greater than 0"]),
        ("[prior]\nlog_age = {uniform = [9.0, 7.0]}\n", ["prior.log_age", "[9.0, 7.0]", "low < high"]),
        ("[prior]\nlog_age = {unifrom = [6.0, 7.0]}\n", ["prior.log_age.unifrom", "'uniform'"]),
        ('[flow]\nkind = "splin"\n', ["flow.kind", "'splin'", "'spline'"]),
        ('[cluster]\nsite = "address"\n', ["cluster", "address"]),
        ("[train]\nheld_out = 0.9\n", ["train.held_out", "0.9", "0.5"]),
        ("seed = nan\n", ["seed"]),
    ],
)
def test_a_wrong_setting_is_named_with_value_and_expectation(tmp_path, extra, words):
    text = extra + MINIMAL if extra.startswith("seed") else MINIMAL + extra
    with pytest.raises(UserError) as caught:
        load_job(write(tmp_path, text))
    assert all(word in str(caught.value) for word in words), caught.value


@pytest.mark.parametrize(
    ("bands", "words"),
    [
        ('["wfc3_f275"]', ["wfc3_f275", "did you mean 'wfc3_f275w'"]),
        ("[]", ["model.bands"]),
        ('["wfc3_f275w", "wfc3_f275w"]', ["named twice", "wfc3_f275w"]),
    ],
)
def test_wrong_bands_are_named(tmp_path, bands, words):
    with pytest.raises(UserError) as caught:
        load_job(write(tmp_path, f'name = "x"\noutput = "y"\n[model]\nbands = {bands}\n'))
    assert all(word in str(caught.value) for word in words), caught.value


def test_all_wrong_settings_are_named_at_once(tmp_path):
    with pytest.raises(UserError) as caught:
        load_job(write(tmp_path, MINIMAL + "[mocks]\nrows = 0\n[infer]\ndraws = 0\n"))
    assert "mocks.rows" in str(caught.value)
    assert "infer.draws" in str(caught.value)


def test_a_job_that_is_no_file_is_named(tmp_path):
    with pytest.raises(UserError, match="is a folder"):
        load_job(tmp_path)
    with pytest.raises(UserError, match="does not exist"):
        load_job(tmp_path / "absent.toml")
    with pytest.raises(UserError, match="is not TOML"):
        load_job(write(tmp_path, "name = "))
    (tmp_path / "job.toml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UserError, match="cannot be read"):
        load_job(tmp_path / "job.toml")


def test_two_catalogues_of_one_name_are_refused(tmp_path):
    entries = '[[catalogue]]\npath = "a/x.csv"\n[[catalogue]]\npath = "b/x.csv"\n'
    with pytest.raises(UserError, match="called 'x'"):
        load_job(write(tmp_path, MINIMAL + entries))


def test_a_resolved_job_reads_back_equal(tmp_path):
    job = load_job(write(tmp_path, MINIMAL + '[[catalogue]]\npath = "a.csv"\nclasses = [1, 2]\n'))
    assert stages.from_resolved(stages.resolved(job), "again") == job


def test_fingerprints_hold_just_the_settings_that_matter(tmp_path):
    path = write(tmp_path, MINIMAL)
    job = load_job(path)
    mocks, train = stages.mocks_settings(job), stages.train_settings(job)
    more = load_job(path, ["mocks.rows=7000", "cluster.cpu_workers=7", "infer.draws=3"])
    assert stages.mocks_settings(more) == mocks
    assert stages.train_settings(more) != train
    same = load_job(path, ["train.checkpoint_seconds=1", "infer.draws=3", "output=elsewhere"])
    assert stages.train_settings(same) == train
    assert stages.mocks_settings(load_job(path, ["seed=9"])) != mocks
    assert stages.infer_settings(more, "a") != stages.infer_settings(job, "a")
    assert stages.infer_settings(job, "a") != stages.infer_settings(job, "b")


def test_nuisances_of_the_prior_are_parameters_of_the_model(tmp_path):
    text = MINIMAL + (
        "[prior]\nrv = {uniform = [2.5, 4.0], marginalise = true}\nmetallicity = {choice = [0.004, 0.02]}\n"
        "covering = {fixed = 0.5}\n"
    )
    job = load_job(write(tmp_path, text))
    assert job.model.vary == {"metallicity": (0.004, 0.02), "rv": (2.5, 4.0)}
    assert job.model.covering == 0.5
    assert list(job.prior.boxes()) == ["log_age", "log_mass", "ebv"]
    assert stages.from_resolved(stages.resolved(job), "again") == job


def test_options_that_are_not_used_leave_the_fingerprint_alone(tmp_path):
    settings = stages.mocks_settings(load_job(write(tmp_path, MINIMAL)))
    assert set(settings) == {"format", "seed", "model", "prior", "mocks"}
    assert set(settings["model"]) == {"engine", "bands", "metallicity", "extinction", "rv"}
    assert settings["prior"] == {
        "log_age": {"uniform": [6.0, 10.14]},
        "log_mass": {"uniform": [2.0, 8.0]},
        "ebv": {"uniform": [0.0, 1.5]},
    }


def test_a_curve_of_the_jobs_own_is_a_band_everywhere(tmp_path):
    (tmp_path / "c.dat").write_text("5000 0.2\n6000 0.2\n")
    text = MINIMAL.replace('["wfc3_f275w",', '["my_band", "wfc3_f275w",') + (
        '[model.curves]\nmy_band = "c.dat"\n'
        '[[catalogue]]\npath = "a.csv"\nbands = ["my_band"]\nzero_points = {my_band = 0.1}\n'
        'columns = {flux = {my_band = "f"}}\n'
    )
    job = load_job(write(tmp_path, text))
    assert job.model.curves["my_band"] == (tmp_path / "c.dat").resolve()
    assert stages.from_resolved(stages.resolved(job), "again") == job
    before = stages.mocks_settings(job)
    (tmp_path / "c.dat").write_text("5000 0.2\n6000 0.3\n")
    assert stages.mocks_settings(job) != before
    (tmp_path / "c.dat").unlink()
    with pytest.raises(UserError, match=r"model\.curves\.my_band.*c\.dat"):
        stages.mocks_settings(job)


@pytest.mark.parametrize(
    ("extra", "words"),
    [
        ('[model.curves]\nwfc3_f275w = "c.dat"\n', ["model.curves", "shipped band", "another name"]),
        ('[model.curves]\n"a/b" = "c.dat"\n', ["model.curves", "a/b"]),
        ('[[catalogue]]\npath = "a"\nbands = ["my_band"]\n', ["catalogue.0.bands", "unknown band 'my_band'"]),
        ("[prior]\nrv = {normal = [3.1, -1.0]}\n", ["prior.rv", "standard deviation must be positive"]),
        ("[prior]\nrv = {fixed = 3.1, uniform = [2.0, 3.0]}\n", ["prior.rv", "uniform and fixed given"]),
        ("[prior]\nrvv = {fixed = 3.1}\n", ["unknown key prior.rvv", "'rv'"]),
        ("[prior]\nrv = {fixed = 9.0}\n", ["rv = 9.0", "less than or equal to 6"]),
    ],
)
def test_wrong_options_are_named(tmp_path, extra, words):
    with pytest.raises(UserError) as caught:
        load_job(write(tmp_path, MINIMAL + extra))
    assert all(word in str(caught.value) for word in words), caught.value
