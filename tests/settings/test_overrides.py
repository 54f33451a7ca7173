"""`--set section.key=value`."""

import pytest

from batchflow.errors import UserError
from batchflow.settings.overrides import apply_overrides, parse_value


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("3", 3),
        ("2.5", 2.5),
        ("true", True),
        ("[1, 2]", [1, 2]),
        ('"a b"', "a b"),
        ("runs/here", "runs/here"),
        ("", ""),
        ("1\nother = 2", "1\nother = 2"),
    ],
)
def test_values_are_toml_and_else_strings(text, value):
    assert parse_value(text) == value


def test_sections_are_made_and_lists_reached_into():
    values = {"catalogue": [{"path": "a"}, {"path": "b"}]}
    apply_overrides(values, ["mocks.rows=10", "catalogue.1.path=c", "seed = 4"])
    assert values == {"catalogue": [{"path": "a"}, {"path": "c"}], "mocks": {"rows": 10}, "seed": 4}


@pytest.mark.parametrize("text", ["mocks.rows", "=3", "catalogue.7.path=x", "catalogue.x=1", "seed.deep=1"])
def test_an_override_that_leads_nowhere_is_named(text):
    with pytest.raises(UserError, match="--set"):
        apply_overrides({"seed": 3, "catalogue": [{"path": "a"}]}, [text])
