"""The command line: thin commands over the package, put together."""

from __future__ import annotations

import errno
import os
import sys
from typing import NoReturn

import typer
from rich.console import Console

from batchflow.commands import ask, batch, exchange, inputs, outputs, stages
from batchflow.commands.examples import epilog
from batchflow.errors import UserError

app = typer.Typer(
    help="Star-cluster catalogues into certified posteriors of age, mass and reddening.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
INPUT_WRONG = 2
DAMAGED_PAGE = "could not verify page integrity"
"""What Arrow says of a page that does not fit its checksum."""
BAD_PATHS = (errno.ENAMETOOLONG, errno.ELOOP, errno.EACCES)
LINKS_IN_A_CIRCLE = "Symlink loop"
"""What pathlib says of such a path, before Python 3.13."""

app.command("run", help=stages.RUN_HELP)(stages.stage_command(tuple(stages.STAGE_HELP)))
for _name, _text in stages.STAGE_HELP.items():
    app.command(_name, help=_text)(stages.stage_command((_name,)))
app.command()(stages.check)
app.command()(batch.submit)
app.command()(batch.jobs)
app.command()(batch.cancel)
app.command()(stages.status)
app.command("model")(inputs.model_command)
app.command("model-card")(inputs.model_card_command)
app.command()(inputs.catalogue)
app.command("query", epilog=ask.EPILOG)(ask.query)
app.command()(exchange.export)
app.command()(exchange.provenance)
app.command()(exchange.cite)
app.command()(outputs.flags)
app.command()(outputs.reweight)
app.command()(outputs.population)

for _command in app.registered_commands:
    _example = epilog(str(_command.name or getattr(_command.callback, "__name__", "")))
    _command.epilog = " ".join(filter(None, (_command.epilog, _example))) or None


def main() -> NoReturn:
    """Run the program: the entry point, which turns errors into messages and exit statuses."""
    try:
        app(standalone_mode=True)
    except UserError as error:
        _tell(str(error))
        _leave(INPUT_WRONG)
    except OSError as error:
        _os_error(error)
    except RuntimeError as error:
        if not str(error).startswith(LINKS_IN_A_CIRCLE):
            raise
        _tell(str(error))
        _leave(INPUT_WRONG)
    _leave(0)


def _os_error(error: OSError) -> NoReturn:
    """Nobody reads on; or a path or a page is bad, which is met where it is read; or anything else."""
    if DAMAGED_PAGE in str(error):
        _tell(f"{error}; `batchflow status JOB --verify` names the file")
        _leave(INPUT_WRONG)
    if error.errno in BAD_PATHS and error.filename is not None:
        _tell(f"cannot open {error.filename}: {error.strerror}")
        _leave(INPUT_WRONG)
    if isinstance(error, BrokenPipeError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        _leave(1)
    raise error


def _tell(message: str) -> None:
    Console(stderr=True, highlight=False, markup=False, soft_wrap=True).print(f"batchflow: {message}")


def _leave(status: int) -> NoReturn:
    sys.stdout.flush()
    raise SystemExit(status)
