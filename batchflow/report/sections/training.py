"""How the training went."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from batchflow.arrow import numbers
from batchflow.report.content import Absence, Picture, Section
from batchflow.report.data import ReportData
from batchflow.report.pictures import BLUE, GREEN, ORANGE, new_figure

TITLE = "Training"
MOST_POINTS = 2000
"""Of a history, drawn at most."""


def training(data: ReportData) -> Section:
    """Losses and learning rate over the steps."""
    history = data.table("history")
    if history is None or not history.num_rows:
        return Section(TITLE, [Absence("This run has no training history: its model came from elsewhere.")])
    parts = _members(history)
    figure = new_figure(9.6, 3.6)
    left, right = figure.subplots(1, 2)
    for i, whole in enumerate(parts):
        part = whole.take(pa.array(np.arange(0, whole.num_rows, -(-whole.num_rows // MOST_POINTS))))
        step = numbers(part, "step")
        for name, color in (("train_loss", BLUE), ("held_out_loss", ORANGE)):
            label = name.replace("_", " ") if i == 0 else None
            left.plot(step, numbers(part, name), ".-", ms=3, lw=1, color=color, label=label, alpha=0.8)
        right.plot(step, numbers(part, "learning_rate"), lw=1.2, color=GREEN)
    left.set(xlabel="step", ylabel="loss [nat]", ylim=_loss_range(history))
    left.legend(fontsize=9)
    right.set(xlabel="step", ylabel="learning rate", ylim=(0, None))
    last = parts[0].slice(parts[0].num_rows - 1).to_pylist()[0]
    caption = (
        "Loss (mean of -ln density, lower is better) on the mocks that train the network and on held-out "
        "mocks. Look for: both fall and flatten, and held-out stays with training; held-out rising while "
        f"training falls means overfitting. Last held-out loss {last['held_out_loss']:.3f} nat after "
        f"{last['epoch']:.1f} passes; {last['rows_per_second']:,.0f} mocks a second."
    )
    if len(parts) > 1:
        caption += f" {len(parts)} members of an ensemble, a line each; figures of the first."
    alt = "Training and held-out loss against training step, and the learning rate."
    return Section(TITLE, [Picture("training", figure, alt, caption)])


def _members(history: pa.Table) -> list[pa.Table]:
    if "member" not in history.column_names:
        return [history]
    names = sorted(pc.unique(history["member"]).to_pylist())
    return [history.filter(pc.equal(history["member"], name)) for name in names]


def _loss_range(history: pa.Table) -> tuple[float, float]:
    """The first losses are of an untrained network: they would leave the rest a flat line."""
    seen = np.concatenate([numbers(history, name) for name in ("train_loss", "held_out_loss")])
    seen = seen[np.isfinite(seen)]
    if not seen.size:
        return 0.0, 1.0
    low, high = float(seen.min()), float(np.percentile(seen, 97))
    margin = max(0.05 * (high - low), 1e-3)
    return low - margin, high + margin
