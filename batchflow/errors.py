"""Errors that a user can mend, told apart from errors of the program."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class UserError(Exception):
    """Something in the user's input is wrong: one clear message, exit status 2.

    The message says what was found, what was expected and what to do.
    """


def nearest(name: str, known: Iterable[str]) -> str:
    """Name the known words most like `name`, as the end of a message.

    Parameters
    ----------
    name : str
        The word that was found.
    known : iterable of str
        The words that would have been right.

    Returns
    -------
    str
        ``"did you mean 'x'?"`` where one is near, else ``"known: a, b, c"``.
    """
    choices = sorted(known)
    close = difflib.get_close_matches(name, choices, n=1, cutoff=0.6)
    return f"did you mean {close[0]!r}?" if close else f"known: {', '.join(choices)}"
