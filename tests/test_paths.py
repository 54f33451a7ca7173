"""Names never become paths unescaped."""

from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from batchflow.paths import escape, partition_folder, unescape

NAMES = st.text(min_size=1).filter(lambda name: name.isprintable() or "\n" in name)


@given(NAMES)
def test_a_galaxy_never_leaves_its_table(name):
    parent = Path("/run/posterior")
    folder = partition_folder(parent, name)
    assert folder.parent == parent
    assert folder.resolve().parent == parent
    assert folder.name.startswith("galaxy=")


@given(NAMES)
def test_escaping_has_an_inverse(name):
    assert unescape(escape(name)) == name


def test_ordinary_names_stay_readable():
    assert escape("NGC0628") == "NGC0628"
    assert escape("../x") == "..%2Fx"
