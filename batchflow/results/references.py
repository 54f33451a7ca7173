"""The papers behind models, laws, data and programs, by a key of their own."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Reference:
    """A paper."""

    authors: str
    """As BibTeX has them: ``Bruzual, G. and Charlot, S.``; the first and ``others`` where they are many."""
    year: int
    title: str
    where: str
    """Journal or proceedings."""
    volume: str = ""
    page: str = ""
    arxiv: str = ""
    doi: str = ""
    """Only where it was looked up."""

    def text(self) -> str:
        """The reference in a line."""
        names = [name.split(",")[0].strip("{}") for name in self.authors.split(" and ")]
        several = " et al." if names[-1] == "others" or len(names) > 3 else ""
        listed = names[0] if several else " & ".join(filter(None, [", ".join(names[:-1]), names[-1]]))
        place = ", ".join(filter(None, [self.where, self.volume, self.page]))
        return f"{listed}{several} {self.year}, {place}" + (f" (arXiv:{self.arxiv})" if self.arxiv else "")

    def bibtex(self, key: str) -> str:
        """The reference as an entry of BibTeX."""
        proceedings = not self.volume and not self.page
        kind, place = ("inproceedings", "booktitle") if proceedings else ("article", "journal")
        values = {
            "author": self.authors.replace("á", r"{\'a}"),
            "title": f"{{{self.title}}}",
            place: self.where,
            "volume": self.volume,
            "pages": self.page,
            "year": str(self.year),
            "doi": self.doi,
            "eprint": self.arxiv,
            "archiveprefix": "arXiv" if self.arxiv else "",
        }
        lines = [f"  {name} = {{{value}}}" for name, value in values.items() if value]
        return f"@{kind}{{{key},\n" + ",\n".join(lines) + "\n}\n"


_FILE = Path(__file__).with_name("references.toml")


def _read() -> dict[str, Reference]:
    values = tomllib.loads(_FILE.read_text(encoding="utf-8"))
    return {key: Reference(**found) for key, found in values.items()}


REFERENCES = _read()
"""References by key."""
