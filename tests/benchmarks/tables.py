"""The figures of the benchmarks as Markdown: what was measured, against what, and the ratio."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

Figures = dict[str, Any]
MISSING = "-"


class Row(NamedTuple):
    """A line of the table."""

    what: str
    value: float | None
    unit: str
    against: str = MISSING
    other: float | None = None
    """In the same unit."""


def markdown(sections: dict[str, Figures], machine: Figures) -> str:
    """All sections that were measured, and what machine it was."""
    parts = [_machine(machine)]
    for name, figures in sections.items():
        note = figures.get("left_out") if isinstance(figures.get("left_out"), str) else None
        if "failed" in figures or note:
            parts.append(f"## {name}\n\n{'failed' if 'failed' in figures else note}\n")
            continue
        rows = list(ROWS[name](figures))
        left = figures.get("left_out") or ()
        parts.append(
            "\n".join([f"## {name}", "", *table(rows), *(f"\nLeft out: {text}" for text in left), ""])
        )
    return "\n".join(parts)


def _machine(machine: Figures) -> str:
    versions = ", ".join(f"{name} {found}" for name, found in machine["versions"].items() if found)
    where = f"{machine['processor']}, {machine['cores']} cores, {machine['memory_gib']:g} GiB"
    loaded = f"load {machine['load_before']:.1f} before the first section"
    return (
        f"# Benchmarks\n\n{machine['date']}; {where}; GPU: {machine['gpu'] or 'none'}; {loaded}.\n"
        f"Python {machine['python']}, {versions}.\n"
    )


def table(rows: list[Row]) -> list[str]:
    """Lines of one table."""
    head = ["| what | measured | against | | ratio |", "|---|---:|---|---:|---:|"]
    return [*head, *map(_line, rows)]


def _line(row: Row) -> str:
    ratio = row.value / row.other if row.value is not None and row.other else None
    other = _number(row.other, row.unit) if row.other is not None else ""
    shown = "" if ratio is None else f"{ratio:.3g}"
    return f"| {row.what} | {_number(row.value, row.unit)} | {row.against} | {other} | {shown} |"


def _number(value: float | None, unit: str) -> str:
    if value is None:
        return MISSING
    return f"{value:,.0f} {unit}" if abs(value) >= 1000 else f"{value:.3g} {unit}"


def _startup(found: Figures) -> Iterator[Row]:
    for name, one in found["commands"].items():
        heavy = f"; imports {', '.join(one['heavy'])}" if one["heavy"] else ""
        what = f"`batchflow {name}`, start to end{heavy}"
        yield Row(what, one["wall_s"], "s", "the limit", found["limit_s"])
        yield Row(
            f"`batchflow {name}`, processor", one["cpu_s"], "s", "Python alone", found["python_alone_s"]
        )


def _engine(found: Figures) -> Iterator[Row]:
    for name, rate in found["mocks_per_s"].items():
        yield Row(name, rate, "mocks/s", "CIGALE, one core", found["cigale_per_s"])


def _mocks(found: Figures) -> Iterator[Row]:
    rates = found["rows_per_s"]
    raw = rates["raw_writing"]
    yield Row("a worker's shards, one process", rates["shards"], "mocks/s", "bare loop", rates["bare_loop"])
    yield Row("the same", rates["shards"], "mocks/s", "raw writing (the limit)", raw)
    yield Row("`batchflow mocks`, 1 worker", rates["workers_1"], "mocks/s", "plain loop", rates["shards"])
    yield Row("`batchflow mocks`, 2 workers", rates["workers_2"], "mocks/s", "1 worker", rates["workers_1"])
    yield Row("the same", rates["workers_2"], "mocks/s", "raw writing, 1 process", raw)


def _cigale(found: Figures) -> Iterator[Row]:
    rates, kind = found["seds_per_s"], f" (double of the tests, {found['double']})" if found["double"] else ""
    for name in list(rates)[1:]:
        yield Row(f"the engine{kind}", rates["engine"], "SED/s", name, rates[name])


def _growth(found: Figures) -> Iterator[Row]:
    before: Figures = {}
    for one in found["sizes"]:
        what = f"{one['rows']:,} {'mocks' if found['what'] == 'mocks' else 'objects'}"
        yield Row(f"{what}, wall", one["wall_s"], "s")
        slope = before.get("marginal_ms") if before.get("rows") != found["sizes"][0]["rows"] else None
        yield Row(f"{what}, a thousand more", one["marginal_ms"], "ms", "size before", slope)
        for name, kind in (("client_mib", "client and scheduler"), ("worker_mib", "largest worker")):
            value, last = (_peak(item, name) if item else None for item in (one, before))
            yield Row(f"{what}, peak of {kind}", value, "MiB", "size before", last)
        before = one


def _peak(one: Figures, name: str) -> float:
    return one["client_mib"] if name == "client_mib" else max(one["workers_mib"], default=0.0)


def _reference(found: Figures) -> Iterator[Row]:
    for goal, seconds in found["seconds_to_efficiency"].items():
        yield Row(f"training to median efficiency {goal}", seconds, "s", "all of it", found["train_seconds"])
    yield Row("training, with everything", found["train_rows_per_s"], "rows/s")
    for name in ("efficiency_p01", "efficiency_p10", "efficiency_p50", "gap_nats"):
        yield Row(name, found[name], "nat" if name == "gap_nats" else "")
    rate = found["certified_draws_per_s"]
    yield Row("certified draws, all threads", rate, "draws/s", "draws alone", found["draws_per_s"])


def _train_step(found: Figures) -> Iterator[Row]:
    yield Row("training loop", found["loop_rows_per_s"], "rows/s", "bare step", found["bare_rows_per_s"])
    for kind in ("training", "sampling"):
        peak = found["peak_gflops"]
        yield Row(f"{kind}, arithmetic", found[f"{kind}_gflops"], "GFLOP/s", "matrix product", peak)


def _draws(found: Figures) -> Iterator[Row]:
    for draws, one in found["draws"].items():
        rates = one["objects_per_s"]
        for kind in ("draws_alone", "raw_writing", "grid"):
            what = f"certified, written, {draws} draws ({one['device']})"
            yield Row(what, rates["certified"], "objects/s", kind.replace("_", " "), rates[kind])
        yield Row("the same", rates["certified"] * float(draws), "draws/s")
        for peer, sizes in found["peers"].items():
            if other := sizes.get(draws) or sizes.get("any"):
                yield Row("the same", rates["certified"], "objects/s", peer, other["objects_per_s"])
        other = found["synference_objects_per_s"]
        yield Row("the same", rates["certified"], "objects/s", "synference, as published", other)


def _certify(found: Figures) -> Iterator[Row]:
    ways = {name: one for name, one in found.items() if isinstance(one, dict) and "ms_a_cluster" in one}
    for name, one in ways.items():
        yield Row(name, one["ms_a_cluster"], "ms/object", "raw", ways["raw"]["ms_a_cluster"])
        yield Row(f"{name}: intervals within 2 %", one["intervals_within_2_percent"], "")


def _fit(found: Figures) -> Iterator[Row]:
    for one in found["objects_per_s"]:
        for kind in ("classical", "exact", "network, rescued"):
            if one.get(kind):
                note = "" if one.get("trained", True) else ", untrained network"
                what = f"{kind}, {one['parameters']} parameters{note}"
                yield Row(what, one[kind], "objects/s", "network", one.get("network"))


def _overhead(found: Figures) -> Iterator[Row]:
    limit = 100 * found["limit"]
    for stage in ("mocks", "infer"):
        one = found[stage]
        what = f"{stage}, {one['units']} units on a cluster of one worker"
        yield Row(what, one["cluster_s"], "s", "plain loop", one["loop_s"])
        for name, key in (("by the clock", "wall_overhead"), ("in processor time", "overhead")):
            error = 100 * one[f"{key}_error"]
            yield Row(f"{stage}, overhead {name} (± {error:.1f})", 100 * one[key], "%", "the limit", limit)
        yield Row(f"{stage}, start of the cluster", one["start_s"], "s")


def _units(found: Figures) -> Iterator[Row]:
    yield Row("an empty unit", found["wall_ms_a_unit"], "ms")
    before, after = found["driver_mib_before"], found["driver_mib_after"]
    yield Row("memory of client and scheduler after them", after, "MiB", "before", before)


def _catalogue(found: Figures) -> Iterator[Row]:
    for one in found["cases"]:
        limit = found["limit_s_a_million"] * max(one["rows"] / 1e6, 1)
        yield Row(f"{one['type']}, {one['rows']:,} rows", one["seconds"], "s", "the limit", limit)
        yield Row(f"{one['type']}, peak memory", one["peak"], "MiB", "before", one["before"])


def _query(found: Figures) -> Iterator[Row]:
    for name, one in found["queries"].items():
        yield Row(f"{name} ({found['clusters']:,} clusters)", one["wall_s"], "s")


def _peers(found: Figures) -> Iterator[Row]:
    peers = found.get("peers", {})
    own = peers.get("batchflow", {})
    for name, one in peers.items():
        if name != "batchflow":
            yield Row("training", own["rows_per_s"], "rows/s", name, one["rows_per_s"])
            yield Row("draws alone, all threads", own["draws_per_s"], "draws/s", name, one["draws_per_s"])
            yield Row("held-out loss", own["held_out_loss"], "nat", name, one["held_out_loss"])
            ratio = one["batchflow_time_to_loss_ratio"]
            yield Row("times sooner at the peer's held-out loss", ratio, "", name)


ROWS: dict[str, Callable[[Figures], Iterator[Row]]] = {
    "startup": _startup,
    "engine": _engine,
    "mocks": _mocks,
    "cigale": _cigale,
    "growth_mocks": _growth,
    "reference": _reference,
    "train_step": _train_step,
    "draws": _draws,
    "certify": _certify,
    "fit": _fit,
    "overhead": _overhead,
    "units": _units,
    "growth_catalogue": _growth,
    "growth_large": _growth,
    "catalogue": _catalogue,
    "query": _query,
    "peers": _peers,
}
