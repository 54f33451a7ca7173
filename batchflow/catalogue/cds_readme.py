"""Tables of CDS (VizieR) whose columns a file called ReadMe beside them describes."""

from __future__ import annotations

import re
from fnmatch import fnmatchcase
from pathlib import Path

README = re.compile(r"readme(\.txt)?", re.IGNORECASE)
RULE = ("------", "======")
_DESCRIPTION = re.compile(r"\s*byte-by-byte description of (?:the )?files?(?:\(s\))?\s*:?(.*)", re.IGNORECASE)
_COMPRESSED = re.compile(r"\.(gz|bz2|xz|zst)$", re.IGNORECASE)


def find_readme(path: Path) -> Path | None:
    """The ReadMe that describes a table's columns.

    Parameters
    ----------
    path : Path
        The table.

    Returns
    -------
    Path or None
        A file beside it with a byte-by-byte description of a file of its name; None where there is none.
    """
    found = sorted(item for item in path.parent.iterdir() if README.fullmatch(item.name) and item.is_file())
    return next((item for item in found if item != path and description_in(item, path)), None)


def description_in(readme: Path, path: Path) -> list[str]:
    """The byte-by-byte description of a table.

    Parameters
    ----------
    readme : Path
        The ReadMe.
    path : Path
        The table, compressed or not.

    Returns
    -------
    list of str
        Its lines, to the rule below the last column; empty where it does not describe the table.
    """
    lines = readme.read_text(encoding="utf-8", errors="replace").splitlines()
    name = _COMPRESSED.sub("", path.name)
    for begin, line in enumerate(lines):
        match = _DESCRIPTION.match(line)
        rules = [i for i in range(begin, len(lines)) if lines[i].startswith(RULE)][:3] if match else []
        if match is None or len(rules) < 3:
            continue
        # Names of several files may go on in lines below the first.
        names = re.split(r"[,\s]+", " ".join([match[1], *lines[begin + 1 : rules[0]]]).strip())
        if any(fnmatchcase(name, pattern) for pattern in names if pattern):
            return lines[begin : rules[2] + 1]
    return []
