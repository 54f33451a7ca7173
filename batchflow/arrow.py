"""Columns of Arrow tables as NumPy arrays."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray


def numbers(table: pa.Table, name: str) -> NDArray[np.float64]:
    """A column as numbers.

    Parameters
    ----------
    table : pyarrow.Table
        With n rows.
    name : str
        Of one of its columns.

    Returns
    -------
    ndarray, shape (n,)
        NaN where it is null.
    """
    return np.asarray(table[name].to_numpy(zero_copy_only=False), dtype=np.float64)
