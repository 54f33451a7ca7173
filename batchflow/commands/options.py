"""Arguments and options that several commands share."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer


class ModeName(StrEnum):
    """What to do with what an earlier run left."""

    resume = "resume"
    restart = "restart"
    refuse = "refuse"


class Split(StrEnum):
    """How many drivers a submitted job has."""

    one = "one"
    separate = "separate"


JobFile = Annotated[Path, typer.Argument(metavar="JOB", help="The job file (TOML).")]
RunPath = Annotated[Path, typer.Argument(metavar="RUN", help="The run folder.")]
SetOption = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="SECTION.KEY=VALUE", help="Override a setting; repeatable."),
]
ModeOption = Annotated[ModeName, typer.Option("--mode", help="What to do with what is there.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON on standard output.")]
VerboseOption = Annotated[bool, typer.Option("-v", "--verbose", help="Show the log.")]
