"""Randomness by key."""

import numpy as np

from batchflow.keys import generator, key


def test_keys_tell_parts_apart():
    found = {key(1, "mocks", 2), key(1, "mocks", 3), key(2, "mocks", 2), key(1, "mocks2"), key(1, "infer", 2)}
    assert len(found) == 5
    assert key(1, "a", "b") != key(1, "ab")
    assert all(0 <= value < 2**63 for value in found)


def test_streams_are_repeatable_and_independent():
    one, again, other = (generator(7, "mocks", i).random(10_000) for i in (0, 0, 1))
    assert np.array_equal(one, again)
    assert abs(np.corrcoef(one, other)[0, 1]) < 0.05
