"""What an XML parser meets in a VOTable: its head as XML, and the rows of one of its tables for a sink."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any
from xml.parsers import expat
from xml.sax.saxutils import quoteattr

from batchflow.catalogue.stored import Stored
from batchflow.catalogue.votable_fields import WANTED
from batchflow.catalogue.votable_rows import Listener
from batchflow.errors import UserError

logger = logging.getLogger(__name__)

BLOCK = 1 << 18
"""Bytes of XML parsed at a time."""
KINDS = ("TABLEDATA", "BINARY", "BINARY2", "FITS")
"""Ways in which a VOTable writes its rows."""


class Document:
    """A VOTable being parsed.

    Parameters
    ----------
    path : Path
        The file, for messages.
    wanted : int
        Which of its tables that have data, from 0.
    sink : Listener, optional
        What takes in the rows of that table.
    """

    def __init__(self, path: Path, wanted: int, sink: Listener | None = None) -> None:
        self._path, self._wanted, self._sink = path, wanted, sink
        self._open: list[str] = []
        self._tags: list[str] = []
        self._closing = ""
        self._table_at = 0
        self._in_data = self._in_error = False
        self.n_tables = 0
        """Tables with data so far."""
        self.n_fields = 0
        """Columns of the tables so far."""
        self.kind = ""
        """How the wanted table's rows are written."""
        self.is_met = False
        """Whether its first row comes next, or came."""
        self.of_table: Mapping[str, str] = {}
        self.of_kind: Mapping[str, str] = {}
        self.of_stream: Mapping[str, str] = {}
        """Attributes of the wanted table, and of the elements between it and its rows."""
        self.error = ""
        """What a server says went wrong."""
        self._parser = expat.ParserCreate()
        self._parser.buffer_text = True
        # Without entities there is nothing that could grow, or name another file.
        self._parser.EntityDeclHandler = self._refuse
        self._parser.SkippedEntityHandler = self._refuse
        self._attend()

    def parse(self, stored: Stored) -> Iterator[None]:
        """Parse a file to its end.

        Parameters
        ----------
        stored : Stored
            The file.

        Yields
        ------
        None
            After each block.

        Raises
        ------
        EOFError
            When the document does not end before the file does.
        UserError
            When it is no VOTable, or declares an entity.
        """
        with stored.stream() as file:
            block = b"-"
            while block:
                block = file.read(BLOCK)
                try:
                    self._parser.Parse(block, not block)
                except expat.ExpatError as error:
                    if not block:
                        raise EOFError(str(error)) from error
                    raise
                yield

    def head(self) -> str:
        """The document up to the wanted table's rows, as XML without any rows."""
        tags = list(self._tags)
        tags[self._table_at] = _tag("TABLE", {**self.of_table, "name": WANTED})
        return "".join(tags) + self._closing

    def _attend(self) -> None:
        self._parser.StartElementHandler = self._start
        self._parser.EndElementHandler = self._end
        self._parser.CharacterDataHandler = self._text

    def _divert(self) -> None:
        self.is_met = True
        self._closing = "".join(f"</{name}>" for name in reversed(self._open))
        if self._sink is not None:
            self._sink.done = self._attend
            self._parser.StartElementHandler = self._sink.start
            self._parser.EndElementHandler = self._sink.end
            self._parser.CharacterDataHandler = self._sink.text

    def _refuse(self, name: str, *_rest: Any) -> None:
        raise UserError(f"catalogue {self._path} declares or uses the XML entity {name!r}; expected none")

    def _start(self, name: str, attributes: dict[str, str]) -> None:
        name = name.rpartition(":")[2]
        if not self._open and name != "VOTABLE":
            raise UserError(
                f"catalogue {self._path} is no VOTable: its XML begins with <{name}>; fetch it again"
            )
        if self._in_data:
            if self.n_tables == self._wanted + 1:
                self._enter(name, attributes)
        elif name == "DATA":
            self._in_data = True
            self.n_tables += 1
        else:
            self._describe(name, attributes)

    def _enter(self, name: str, attributes: dict[str, str]) -> None:
        """An element of the wanted table's data."""
        if name in KINDS:
            self.kind, self.of_kind = name, attributes
        elif name == "STREAM":
            self.of_stream = attributes
        if name in ("TABLEDATA", "STREAM"):
            self._divert()

    def _describe(self, name: str, attributes: dict[str, str]) -> None:
        """An element that is no data."""
        self._open.append(name)
        if name == "INFO" and attributes.get("name", "").upper() == "QUERY_STATUS":
            self._in_error = attributes.get("value", "").upper() == "ERROR"
            if attributes.get("value", "").upper() == "OVERFLOW":
                warn_once(f"{self._path} is not all: the server says OVERFLOW; ask it for more rows (MAXREC)")
        if self.is_met:
            return
        self.n_fields += name == "FIELD"
        if name == "TABLE":
            self._table_at, self.of_table = len(self._tags), attributes
        self._tags.append(_tag(name, attributes))

    def _end(self, name: str) -> None:
        name = name.rpartition(":")[2]
        if self._in_data:
            self._in_data = name != "DATA"
            return
        self._open.pop()
        self._in_error = False
        if not self.is_met:
            self._tags.append(f"</{name}>")

    def _text(self, text: str) -> None:
        if self._in_error:
            self.error += text.strip()


@lru_cache(maxsize=1024)
def warn_once(text: str) -> None:
    """Warn, once a process: a file is opened several times.

    Parameters
    ----------
    text : str
        With the file's name.
    """
    logger.warning("%s", text)


def _tag(name: str, attributes: Mapping[str, str]) -> str:
    return f"<{name}{''.join(f' {key}={quoteattr(value)}' for key, value in attributes.items())}>"
