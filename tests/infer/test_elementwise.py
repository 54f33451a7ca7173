"""A number's logistic function does not depend on where in an array it stands."""

import pytest
import torch

from batchflow.infer.mass_fit import logaddexp, sigmoid

VALUES = torch.linspace(-60, 60, 1009)
OTHERS = VALUES.flip(0).roll(3)


@pytest.mark.parametrize("start", [0, 1, 5])
def test_neighbours_do_not_matter(start):
    for size in range(1, 40):
        rows = slice(start, start + size)
        assert torch.equal(sigmoid(VALUES)[rows], sigmoid(VALUES[rows]))
        assert torch.equal(logaddexp(VALUES, OTHERS)[rows], logaddexp(VALUES[rows], OTHERS[rows]))


def test_values_are_those_of_double_precision():
    exact = torch.sigmoid(VALUES.double())
    torch.testing.assert_close(sigmoid(VALUES).double(), exact, rtol=1e-5, atol=0)
    exact = torch.logaddexp(VALUES.double(), OTHERS.double())
    torch.testing.assert_close(logaddexp(VALUES, OTHERS).double(), exact, rtol=1e-6, atol=1e-6)


def test_infinities():
    low, zero = torch.tensor([-torch.inf, -torch.inf, 2.0]), torch.tensor([-torch.inf, 1.0, -torch.inf])
    assert logaddexp(low, zero).tolist() == [-torch.inf, 1.0, 2.0]
    assert sigmoid(torch.tensor([-torch.inf, torch.inf, -200.0])).tolist() == [0.0, 1.0, 0.0]
