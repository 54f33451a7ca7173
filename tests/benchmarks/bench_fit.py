"""Objects a second of the classical fit, the exact grid and the network, and how each grows by parameter.

    python tests/benchmarks/bench_fit.py RUN [OBJECTS]

RUN is a finished run of three parameters (or its model folder). The networks of four and five have its shape
and weights drawn at random: what a draw and its weight cost does not depend on what was learnt. A rescue
does, so it is timed of the network of RUN alone. Objects are simulated by the noise model of RUN. Times are
of the processor, on one thread: other programs on the machine do not count. The grid: the library's ages,
E(B-V) by 0.01 mag, metallicities of the library, R(V) by the table's nodes.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import torch
from harness import report, rounded

from batchflow.fit.classical import fit_classical
from batchflow.fit.exact import draw_exact
from batchflow.fit.prepare import Fitter, make_fitter
from batchflow.flow.checkpoint import PosteriorNetwork, new_network
from batchflow.flow.density import Specification
from batchflow.flow.features import on_device
from batchflow.infer.clusters import Clusters
from batchflow.infer.draw import Options, Rescue, draw_posteriors
from batchflow.infer.posterior import Model, open_model
from batchflow.physics.engine import open_engine
from batchflow.settings.fit import FitSettings
from batchflow.settings.model import ModelSettings
from batchflow.settings.prior import PriorSettings
from batchflow.train.simulate import simulate

DRAWS = 500
MPC = 3.0
MORE = {"metallicity": (0.004, 0.05), "rv": (2.5, 4.5)}
SHARE: dict[str, Any] = {"network": 4, "classical": (1, 4, 20), "exact": (10, 20, 0)}
"""One in so many objects is fitted, by number of parameters from 3; 0: none."""


def clusters_of(model: Model, n: int) -> Clusters:
    """Simulated as in training."""
    rng = np.random.default_rng(0)
    values = {name: rng.uniform(*model.prior.boxes()[name], n) for name in model.table.parameters}
    chance = torch.Generator().manual_seed(0)
    fluxes = torch.as_tensor(model.table.fluxes(values), dtype=torch.float32)
    found = simulate(fluxes, on_device(model.network.noise, "cpu", torch.float32), chance)
    seen = [np.where(found.seen.measured, column, np.nan) for column in (found.seen.flux, found.seen.error)]
    names = [model.network.noise.surveys[int(i)] for i in found.survey]
    keys = [str(i) for i in range(n)]
    return Clusters(seen[0], seen[1], found.seen.limit.numpy(), np.full(n, MPC), keys, names)


def wider(model: Model, extra: int) -> Model:
    """A model of as many parameters more, its network not trained."""
    if not extra:
        return model
    vary = dict(list(MORE.items())[:extra])
    settings = model.prior.model_dump(mode="json") | {name: {"uniform": box} for name, box in vary.items()}
    prior = PriorSettings.model_validate(settings)
    table = open_engine(ModelSettings(bands=model.bands, vary=vary)).table()
    own = model.network.specification
    fresh = new_network(Specification(own.bands, prior.boxes(), own.flow, own.noise), 0)
    density = fresh.density.requires_grad_(False)
    about = {"prior_settings": prior.model_dump(mode="json")}
    return Model(PosteriorNetwork(fresh.specification, density, about, "untrained"), table)


def fitter_of(model: Model) -> Fitter:
    """Fitter of the same table, noise and prior."""
    return make_fitter(model.table, model.network.noise, model.prior, FitSettings())


def rate(work: Callable[[Clusters], Any], clusters: Clusters, share: int) -> float | None:
    """Objects a second."""
    if not share:
        return None
    n = max(8, len(clusters.keys) // share)
    part = clusters.rows(np.arange(n))
    work(part.rows(np.arange(8)))
    start = time.process_time()
    work(part)
    return n / (time.process_time() - start)


def rates(fitter: Fitter, clusters: Clusters, place: int) -> dict[str, Any]:
    """Both ways of the stage `fit`."""

    def classical(part: Clusters) -> Any:
        return fit_classical(fitter.models, part, fitter.additional_error(part), fitter.how)

    def exact(part: Clusters) -> Any:
        return draw_exact(fitter.proposal, part, DRAWS, 0)

    has = SHARE["exact"][place] if fitter.proposal.grid is not None else 0
    return {
        "models": fitter.models.fluxes.shape[1],
        "classical": rate(classical, clusters, SHARE["classical"][place]),
        "exact": rate(exact, clusters, has),
    }


def network_rates(model: Model, clusters: Clusters, ways: dict[str, Rescue | None]) -> dict[str, Any]:
    """The network's draws, weighted to the exact posterior; and with its rescue."""
    found = {}
    for name, rescue in ways.items():
        options = Options(DRAWS, True, 0, rescue)
        draws = partial(draw_posteriors, model.proposal, options=options)
        found[name] = rate(draws, clusters, SHARE["network"])
    return found


def main(run: str, objects: int) -> None:
    """Print a line for each number of parameters, and the figures as JSON."""
    figures = list[dict[str, Any]]()
    torch.set_num_threads(1)
    first = open_model(run, device="cpu")
    clusters = clusters_of(first, objects)
    for place in range(3):
        model = wider(first, place)
        ways = {"network": None} | ({} if place else {"network, rescued": Rescue()})
        found = {"parameters": 3 + place, "trained": not place} | rates(fitter_of(model), clusters, place)
        found |= network_rates(model, clusters, ways)
        figures.append(found)
        print(rounded(found), flush=True)
    report({"objects_per_s": figures})


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else 2000)
