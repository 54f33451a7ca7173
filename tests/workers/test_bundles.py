"""Bundles hold every unit once, in order; quick units go together, slow ones alone, and nobody runs dry."""

from batchflow.plan import Unit
from batchflow.workers.bundles import LEAST_SECONDS, TASK_SECONDS, Bundles


def units(*rows: int | None) -> list[Unit]:
    return [Unit(f"u{i}", (), count) for i, count in enumerate(rows)]


def drained(bundles: Bundles, tasks: int = 1) -> list[list[str]]:
    found = []
    while bundles:
        found.append([unit.key for unit in bundles.take(tasks)])
    return found


def learnt(rows: list[int | None], rows_a_task: float) -> Bundles:
    """Bundles that have seen how many rows fill a task's time."""
    bundles = Bundles(units(*rows))
    bundles.took(units(100), 100 * TASK_SECONDS / rows_a_task)
    return bundles


def test_nothing_is_bundled_before_its_time_is_known():
    assert drained(Bundles(units(1, 1, 1))) == [["u0"], ["u1"], ["u2"]]


def test_quick_units_fill_a_task_and_each_is_handed_out_once_in_order():
    found = drained(learnt([10] * 100, 55))
    assert len(found[0]) == 5
    assert max(map(len, found)) == 5
    assert [key for bundle in found for key in bundle] == [f"u{i}" for i in range(100)]


def test_a_slow_unit_is_alone_and_is_never_put_behind_quick_ones():
    found = drained(learnt([10, 10, 5000, 10, 10, *[10] * 50], 100))
    assert found[:2] == [["u0", "u1"], ["u2"]]


def test_units_of_unknown_length_count_one_each():
    assert len(Bundles(units(*[None] * 100)).take(1)) == 1
    bundles = Bundles(units(*[None] * 100))
    bundles.took(units(None), TASK_SECONDS / 7)
    assert len(bundles.take(1)) == 7


def test_what_is_left_is_shared_by_all_that_may_be_in_flight():
    found = drained(learnt([1] * 60, 1.5 * TASK_SECONDS / LEAST_SECONDS), tasks=6)
    assert len(found[0]) == 5
    assert found[-12:] == [[f"u{i}"] for i in range(48, 60)]


def test_what_is_left_is_not_shared_where_that_gains_less_than_it_costs():
    found = drained(learnt([1] * 60, 4 * TASK_SECONDS / LEAST_SECONDS), tasks=6)
    assert len(found[0]) == 5
    assert [len(bundle) for bundle in found[-8:]] == [4] * 7 + [3]


def test_a_bundle_that_failed_comes_again_one_by_one_and_so_does_all_after_it():
    bundles = learnt([1] * 40, 40)
    failed = bundles.take(1)
    assert len(failed) == 20
    bundles.give_back(failed)
    assert drained(bundles) == [[f"u{i}"] for i in range(40)]


def test_single_bundles_stay_single():
    bundles = Bundles(units(*[1] * 9), single=True)
    bundles.took(units(1), 1e-9)
    assert drained(bundles) == [[f"u{i}"] for i in range(9)]
