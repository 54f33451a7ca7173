"""A model's card: what an astronomer who is sent the folder needs to know, in Markdown; needs no torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from batchflow.errors import UserError
from batchflow.flow.description import load_description
from batchflow.paths import RunFolder
from batchflow.schema import unit_of
from batchflow.settings.prior import PriorSettings
from batchflow.shards import read_footer, read_table, write_text

CARD_FILE = "README.md"

MEANING = {
    "log_age": "log10 of the age",
    "log_mass": "log10 of the mass of stars formed",
    "ebv": "reddening E(B-V)",
    "metallicity": "metal mass fraction",
    "rv": "A(V) / E(B-V)",
    "covering": "share of the ionising light that gas turns into nebular emission",
}

USE = """\
```python
import batchflow

model = batchflow.open_model("PATH OF THIS FOLDER")
# fluxes and errors in mJy, shape (n_clusters, n_bands), NaN where not measured
posterior = model.posterior(fluxes, errors, distance_mpc=10.0)
posterior.summary  # a row a cluster: quantiles, `efficiency`, `flags`
```

The draws are weighted to the exact posterior; `efficiency` (effective draws over draws) says for each
cluster how well the network did. Loading checks every file against its checksum, and runs no code from
the folder."""

LIMITS = """\
- A cluster is a simple stellar population behind a foreground screen. Stochastic sampling of the IMF is not
  modelled: below some 3000 solar masses real clusters scatter more than the posteriors say.
- Photometry outside the noise domain above carries the flag OUTSIDE_TRAINING; a low `efficiency` carries
  LOW_EFFICIENCY. Neither should be used without a look.
- Where a true model lies outside the prior or the stellar library, the posterior is wrong without a sign,
  unless no model fits (POOR_FIT)."""

CITATION = """\
batchflow is under the MIT licence; who passes on a trained model decides on that model's own. Please cite
the method, Walter et al. 2026 (A&A 706, A201), and the ingredients: {reference}."""


def model_card(description: Mapping[str, Any], recovery: Sequence[Mapping[str, Any]] = ()) -> str:
    """Describe a trained model.

    Parameters
    ----------
    description : mapping
        What ``model.json`` holds.
    recovery : sequence of mapping
        Rows of ``validation/recovery.parquet``, where the model was validated.

    Returns
    -------
    str
        Markdown.
    """
    members = len(description.get("members", [0]))
    sections = {
        "What it is": _what(description, members),
        "How to use it": USE,
        "Bands": _bands(description),
        "Prior": _prior(description),
        "Physics": _engine(description["engine"]),
        "Noise domain": _noise(description["noise"]),
        "Training": _training(description, members),
        "Calibration": _calibration(recovery),
        "Limits": LIMITS,
        "Licence and citation": CITATION.format(reference=_reference(description["engine"])),
        "Versions": ", ".join(f"{name} {found}" for name, found in sorted(description["versions"].items())),
    }
    body = "\n\n".join(f"## {title}\n\n{text}" for title, text in sections.items())
    return f"# Posteriors of star clusters from {len(description['bands'])} bands\n\n{body}\n"


def card_of(path: Path) -> str:
    """The card of a run's model, or of a model folder, with the calibration where there is one.

    Parameters
    ----------
    path : Path
        A run folder, or a model folder.

    Returns
    -------
    str
        Markdown.

    Raises
    ------
    UserError
        When there is no model, or its description was altered.
    """
    run = RunFolder(path)
    if not path.is_dir():
        raise UserError(f"{path} is no folder; give a run folder or a model folder")
    folder = run.model if run.model.is_dir() else path
    description = load_description(folder)
    try:
        if folder == path and (own := _own_card(path, description)) is not None:
            return own
        return model_card(description, _recovery(run, description))
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(f"{folder}: the description of the model lacks {error}; train again") from None


def _own_card(folder: Path, description: Mapping[str, Any]) -> str | None:
    """The card that a model folder brings with it, calibration and all; None where it is of another model.

    A folder that stands alone has no table of the validation, so what its card says of it is all there is.
    """
    path = folder / CARD_FILE
    if not path.is_file():
        return None
    text, fresh = path.read_text(encoding="utf-8"), model_card(description)
    return text if _without_calibration(text) == _without_calibration(fresh) else None


def _without_calibration(card: str) -> str:
    before, _, after = card.partition("## Calibration\n")
    return before + after.partition("\n## ")[2]


def refresh_card(run: RunFolder) -> None:
    """Write the card of a run's model anew: it has been validated since.

    Parameters
    ----------
    run : RunFolder
        With a model. No checksum is of the card.

    Raises
    ------
    UserError
        When the file system refuses.
    """
    path, text = run.model / CARD_FILE, card_of(run.root)
    if not path.is_file() or path.read_text(encoding="utf-8") != text:
        write_text(path, text)


def _recovery(run: RunFolder, description: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Recovery of held-out mocks by this very model; nothing where another was validated, or none."""
    path = run.validation / "recovery.parquet"
    footer = read_footer(path)
    if footer is None or footer[0].get("settings", {}).get("weights") != description.get("weights_sha256"):
        return []
    return read_table(path).to_pylist()


def _what(description: Mapping[str, Any], members: int) -> str:
    names = ", ".join(f"`{name}`" for name in description["parameters"])
    kind = f"an equal mixture of {members} networks" if members > 1 else "one network"
    return (
        f"A conditional normalizing flow ({description['flow']['kind']} couplings; {kind}) that turns "
        f"broad-band photometry of a star cluster into the posterior of {names}. Any subset of the bands "
        "below will do, at any distance."
    )


def _bands(description: Mapping[str, Any]) -> str:
    pivots = description["engine"].get("pivots_AA")
    bands = [f"`{band}`" for band in description["bands"]]
    if not pivots:
        return ", ".join(bands)
    return _table(
        ["band", "pivot [AA]"], [[band, f"{pivot:g}"] for band, pivot in zip(bands, pivots, strict=True)]
    )


def _prior(description: Mapping[str, Any]) -> str:
    shapes = PriorSettings.model_validate(description["prior_settings"]).distributions()
    rows = [
        [f"`{name}`", MEANING.get(name, ""), unit_of(name), found.words, "yes" if found.inferred else "no"]
        for name, found in shapes.items()
    ]
    return _table(["parameter", "meaning", "unit", "prior", "inferred"], rows)


def _engine(engine: Mapping[str, Any]) -> str:
    plain = {name: value for name, value in engine.items() if isinstance(value, str | int | float)}
    library = engine.get("ssp")
    if isinstance(library, Mapping):
        plain |= {"stellar library": library.get("name", "")}
    return _table(["", ""], [[name.replace("_", " "), str(value)] for name, value in plain.items()])


def _reference(engine: Mapping[str, Any]) -> str:
    library = engine.get("ssp")
    if isinstance(library, Mapping) and library.get("reference"):
        return f"{library['reference']} (stellar populations), and the source of the extinction law"
    return "those of CIGALE (Boquien et al. 2019, A&A 622, A103) and of its modules"


def _noise(noise: Mapping[str, Any]) -> str:
    rows = []
    # The last row of `systematic` is for surveys that the model does not know.
    columns = (noise["surveys"], noise["depth"], noise["brightness"], noise["systematic"][:-1])
    for survey, depth, (low, high), added in zip(*columns, strict=True):
        known = dict(zip(noise["bands"], depth, strict=True))
        shown = ", ".join(f"{band} {1e6 * value:.3g}" for band, value in known.items() if value is not None)
        rows.append([survey, shown, f"{10**low:.2g} to {10**high:.2g}", _percents(added)])
    heads = [
        "survey",
        "median 1-sigma depth [nJy]",
        "largest signal over depth",
        "unreported [% of the flux]",
    ]
    return f"{_table(heads, rows)}\n\nWhat the catalogues' errors do not hold is added to them in quadrature."


def _percents(fractions: Sequence[float]) -> str:
    low, high = 100 * min(fractions), 100 * max(fractions)
    return f"{low:g}" if low == high else f"{low:g} to {high:g}, by band"


def _training(description: Mapping[str, Any], members: int) -> str:
    figures = description["training"]
    title = "figure, mean of the members" if members > 1 else "figure"
    units = {"seconds": " s", "train_loss": " nat", "held_out_loss": " nat"}
    rows = [[name.replace("_", " "), f"{value:,.6g}{units.get(name, '')}"] for name, value in figures.items()]
    return _table([title, "value"], rows)


def _calibration(recovery: Sequence[Mapping[str, Any]]) -> str:
    if not recovery:
        return (
            "Not measured when this card was written. `batchflow validate JOB` measures it, and writes the "
            "card anew."
        )
    names = ("parameter", "n", "bias", "scatter", "coverage_68", "coverage_95", "rank_pvalue")
    rows = [
        [f"{row[name]:.3g}" if isinstance(row[name], float) else str(row[name]) for name in names]
        for row in recovery
    ]
    note = f"On held-out mocks. Median efficiency of the draws: {recovery[0]['efficiency']:.2f}."
    return f"{_table([name.replace('_', ' ') for name in names], rows)}\n\n{note}"


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
