"""Where everything of a run lies, and names made safe for a file system."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote, unquote


def escape(name: str) -> str:
    """Percent-encode a name so that it is one harmless path segment.

    Parameters
    ----------
    name : str
        For example a galaxy's; any text.

    Returns
    -------
    str
        Letters, digits, ``_ . -`` and ``~`` stay as they are. Inverse: `unescape`.
    """
    return quote(name, safe="")


def unescape(segment: str) -> str:
    """Inverse of `escape`."""
    return unquote(segment)


def partition_folder(parent: Path, galaxy: str) -> Path:
    """Folder of a galaxy's part files, in hive style.

    Parameters
    ----------
    parent : Path
        The table's folder, such as ``RUN/posterior``.
    galaxy : str
        Any text; it never leaves `parent`.

    Returns
    -------
    Path
        ``parent/galaxy=<escaped>``.
    """
    return parent / f"galaxy={escape(galaxy)}"


def file_state(path: Path) -> tuple[int, ...]:
    """Numbers of which one is another when a file is changed, or another one put in its place.

    That may have its size and time of change; not its inode and time of status.
    """
    found = path.stat()
    return found.st_size, found.st_mtime_ns, found.st_ctime_ns, found.st_ino, found.st_dev


def remove(*folders: Path) -> None:
    """Remove folders and all in them, or what is in their place; one that is absent is no error."""
    for folder in folders:
        if folder.is_symlink() or folder.is_file():
            folder.unlink()
        elif folder.exists():
            shutil.rmtree(folder)


@dataclass(frozen=True)
class RunFolder:
    """Layout of a run folder."""

    root: Path

    @property
    def job(self) -> Path:
        """The job as resolved."""
        return self.root / "job.toml"

    @property
    def mocks(self) -> Path:
        """Mock shards."""
        return self.root / "mocks"

    @property
    def flux_table(self) -> Path:
        """The flux table that the engine `cigale` computed, and its parts."""
        return self.root / "flux_table"

    @property
    def catalogue(self) -> Path:
        """The normalised catalogue, partitioned by galaxy."""
        return self.root / "catalogue"

    @property
    def model(self) -> Path:
        """Model folder."""
        return self.root / "model"

    @property
    def history(self) -> Path:
        """Training history."""
        return self.model / "history.parquet"

    @property
    def posterior(self) -> Path:
        """Summaries, partitioned by galaxy."""
        return self.root / "posterior"

    @property
    def draws(self) -> Path:
        """Draws, partitioned by galaxy."""
        return self.root / "draws"

    @property
    def fit(self) -> Path:
        """Classical fits, partitioned by galaxy."""
        return self.root / "fit"

    @property
    def population(self) -> Path:
        """Age and mass distributions of the galaxies."""
        return self.root / "population"

    @property
    def validation(self) -> Path:
        """Calibration and comparison tables."""
        return self.root / "validation"

    @property
    def report(self) -> Path:
        """Pictures."""
        return self.root / "report"

    @property
    def logs(self) -> Path:
        """Logs of the stages."""
        return self.root / "logs"

    @property
    def written(self) -> tuple[Path, ...]:
        """Folders that the stages write."""
        results = (
            self.mocks,
            self.flux_table,
            self.catalogue,
            self.model,
            self.posterior,
            self.draws,
            self.fit,
        )
        return (*results, self.validation, self.report, self.logs)

    def shard(self, index: int) -> Path:
        """Mock shard number `index`."""
        return self.mocks / f"shard-{index:05d}.parquet"
