"""The last step of a training: an ensemble's members put together, and the model's card; needs no torch."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
import pyarrow as pa

from batchflow.flow.card import CARD_FILE, model_card
from batchflow.flow.description import (
    HISTORY,
    HISTORY_FILE,
    joint_checksum,
    load_description,
    write_description,
)
from batchflow.made import made
from batchflow.paths import remove
from batchflow.shards import read_table, write_table, write_text

CHECKPOINT_FOLDER = "checkpoint"


def finish_model(folder: Path, members: Sequence[str]) -> None:
    """Put the members of an ensemble together, where there are any, and write the model's card.

    Parameters
    ----------
    folder : Path
        The model folder.
    members : sequence of str
        Folders in it, each a trained model; none for a single model.

    Raises
    ------
    UserError
        When a member is not whole.
    """
    for trained in _folders(folder, members):
        remove(trained / CHECKPOINT_FOLDER)
        _stamp(trained)
    if members:
        _put_together(folder, members)
    write_text(folder / CARD_FILE, model_card(load_description(folder)))


def is_finished(folder: Path, members: Sequence[str]) -> bool:
    """Whether `finish_model` came to its end with a model that is trained."""
    stamped = (folder / CARD_FILE).is_file() and "made" in load_description(folder)
    return stamped and not any((own / CHECKPOINT_FOLDER).exists() for own in _folders(folder, members))


def _folders(folder: Path, members: Sequence[str]) -> list[Path]:
    return [folder / name for name in members] or [folder]


def _stamp(folder: Path) -> None:
    """Say by which command a model came about; the worker that trained it does not know."""
    described = load_description(folder)
    if "made" not in described:
        write_description(folder, described | {"made": made()})


def _put_together(folder: Path, members: Sequence[str]) -> None:
    described = [load_description(folder / name) for name in members]
    histories = [read_table(folder / name / HISTORY_FILE) for name in members]
    numbered = [
        table.append_column("member", pa.array(np.full(table.num_rows, place, np.int16)))
        for place, table in enumerate(histories)
    ]
    checksums = [own["weights_sha256"] for own in described]
    footer = {"kind": "history", "of": joint_checksum(checksums)}
    write_table(folder / HISTORY_FILE, pa.concat_tables(numbered), footer)
    entries = [
        {"folder": name, "weights_sha256": own["weights_sha256"], "training": own["training"]}
        for name, own in zip(members, described, strict=True)
    ]
    whole: dict[str, Any] = {"members": entries, "weights_sha256": joint_checksum(checksums)}
    figures = {name: fmean(own["training"][name] for own in described) for name in described[0]["training"]}
    first = {name: value for name, value in described[0].items() if name != HISTORY}
    write_description(folder, first | whole | {"training": figures})
