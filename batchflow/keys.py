"""Randomness by key: every draw comes from (seed, stage, unit), never from a global state."""

from __future__ import annotations

import hashlib

import numpy as np


def key(seed: int, *parts: str | int) -> int:
    """Hash a seed and the name of a unit into 63 bits.

    Parameters
    ----------
    seed : int
        The job's seed.
    *parts : str or int
        Stage and unit.

    Returns
    -------
    int
        Equal for equal arguments, on every machine.
    """
    text = "\x1f".join([str(seed), *map(str, parts)])
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest()) >> 1


def generator(seed: int, *parts: str | int) -> np.random.Generator:
    """A NumPy generator of its own for a unit.

    Parameters
    ----------
    seed : int
        The job's seed.
    *parts : str or int
        Stage and unit.

    Returns
    -------
    numpy.random.Generator
        Counter-based (Philox): streams of different keys are independent.
    """
    return np.random.Generator(np.random.Philox(key=key(seed, *parts)))
