"""What a job must be for the preset of a survey, and what else of [fit] can be wrong; nothing is fitted."""

from __future__ import annotations

from batchflow.config import Job
from batchflow.errors import UserError
from batchflow.fit.grid import Floats, check_size, grid_nodes
from batchflow.infer.nuisance import why_no_grid
from batchflow.settings.model import ModelSettings

PHANGS = {"metallicity": 0.02, "extinction": "CCM89", "rv": 3.1, "covering": 0.0}
"""Turner et al. 2021 (MNRAS 502, 1366): solar, Milky-Way extinction, no nebular emission."""


def fit_problems(job: Job) -> list[str]:
    """What is wrong with a job's [fit].

    Parameters
    ----------
    job : Job
        A job whose settings are valid each for itself.

    Returns
    -------
    list of str
        One message a problem; empty where the fit is not wanted, or [model] cannot be opened.
    """
    if not job.fit.enabled:
        return []
    found = _preset_problems(job)
    try:
        own = own_nodes(job.model)
    except UserError:  # `check` says so by itself
        return found
    if not own.keys() <= job.prior.distributions().keys():
        return found
    try:
        check_size(grid_nodes(job.fit, job.prior, own), len(job.model.bands))
    except UserError as error:
        found.append(str(error))
    return found


def describe_fit(job: Job) -> str:
    """What the stage will do, in words.

    Parameters
    ----------
    job : Job
        The job.

    Returns
    -------
    str
        Size of the classical grid, and whether the exact posterior is made.

    Raises
    ------
    UserError
        As `grid.grid_nodes` and the engine do.
    """
    if not job.fit.enabled:
        return "not part of `run` (fit.enabled = false)"
    nodes = grid_nodes(job.fit, job.prior, own_nodes(job.model))
    models = check_size(nodes, len(job.model.bands))
    sizes = " x ".join(f"{axis.size} {name}" for name, axis in nodes.items())
    if not job.fit.exact:
        exact = "no exact posterior (fit.exact = false)"
    elif why_no_grid(job.prior):
        exact = "no exact posterior: marginalised, or more than four parameters"
    else:
        exact = "exact posterior"
    return f"{models:,} models ({sizes}); {exact}"


def own_nodes(model: ModelSettings) -> dict[str, Floats]:
    """Nodes of the model's flux table by parameter, without computing CIGALE's."""
    from batchflow.physics.engine import open_engine

    if model.engine == "cigale":
        from batchflow.physics.cigale_table import open_cigale, table_nodes

        engine = open_cigale(model)
        return dict(zip(engine.parameters, table_nodes(engine), strict=True))
    table = open_engine(model).table()
    return dict(zip(table.parameters, table.nodes, strict=True))


def _preset_problems(job: Job) -> list[str]:
    if job.fit.preset is None:
        return []
    model = job.model
    given = {name: getattr(model, name) for name in PHANGS}
    wrong = [f"{name} = {value!r}" for name, value in given.items() if value != PHANGS[name]]
    wrong += [f"a {name} that varies" for name in model.vary]
    if model.engine != "embedded":
        wrong.insert(0, f"engine = {model.engine!r}")
    if not wrong:
        return []
    return [
        f'fit.preset = "phangs" is for BC03 of solar metallicity without nebular emission (engine = '
        f'"embedded", metallicity = 0.02, extinction = "CCM89", rv = 3.1, covering = 0); [model] has '
        f"{', '.join(wrong)}: change it, or leave the preset out and give fit.nodes"
    ]
