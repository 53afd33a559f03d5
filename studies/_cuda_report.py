"""The tables of the study ``cuda``."""

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from _cuda_networks import NETWORKS
from _cuda_runs import GRAPH, METHODS, OURS
from _report import table


def report_of(rows: Sequence[Mapping[str, Any]], left_out: Mapping[str, str]) -> str:
    timed = [row for row in rows if row["mode"] != GRAPH]
    parts = [
        "Time:", time_table(timed), "Memory, the peak of the tensors on the device:",
        memory_table(timed), "CUDA graphs:",
        graph_table([row for row in rows if row["mode"] == GRAPH]), *absent_methods(timed),
    ]  # fmt: skip
    if left_out:
        parts.append("Left out:")
        parts.append("\n".join(f"- {task}: {reason}" for task, reason in left_out.items()))
    return "\n\n".join(parts)


def heading(row: Mapping[str, Any]) -> list[str]:
    batch = NETWORKS[row["network"]].shape[0]
    return [row["network"], *map(str, (batch, row["mode"], row["layers"], row["classes"]))]


HEADING = ["network", "batch", "mode", "layers", "classes"]


def time_table(rows: Sequence[Mapping[str, Any]]) -> str:
    header = [*HEADING, "limit, ms", f"{OURS}, ms", *(f"{name} / limit" for name in METHODS)]
    cells = [
        [
            *heading(row),
            *(milliseconds(row, name) for name in ("limit", OURS)),
            *(ratio_cell(row, name) for name in METHODS),
        ]
        for row in rows
    ]
    return table(header, cells)


def milliseconds(row: Mapping[str, Any], name: str) -> str:
    return f"{1000 * row['seconds'][name].median:.3g}" if name in row["seconds"] else "-"


def ratio_cell(row: Mapping[str, Any], name: str) -> str:
    """The ratio's quartiles; where it is of a single call, that."""
    if name not in row["ratios"]:
        return "-"
    ratio = row["ratios"][name]
    return f"{ratio.median:.3g} (one call)" if name in row["once"] else str(ratio)


def memory_table(rows: Sequence[Mapping[str, Any]]) -> str:
    header = [*HEADING, "limit, MiB", *(f"{name} / limit" for name in METHODS)]
    cells = [[*heading(row), *memory_cells(row["mib"])] for row in rows]
    return table(header, cells)


def memory_cells(mib: Mapping[str, float]) -> Iterator[str]:
    base = mib["limit"]
    yield "-" if math.isnan(base) else f"{base:.0f}"
    for name in METHODS:
        value = mib.get(name, math.nan)
        yield "-" if math.isnan(value) or not base else f"{value / base:.2f}"


def graph_table(rows: Sequence[Mapping[str, Any]]) -> str:
    header = ["network", "batch", "layers", "limit, ms", f"{OURS} / limit", "limit in a graph / "
              "limit", f"{OURS} in a graph / limit", f"waits of a {OURS} call"]  # fmt: skip
    cells = [
        [
            *(heading(row)[column] for column in (0, 1, 3)),
            milliseconds(row, "limit"),
            str(row["ratios"][OURS]),
            *(replay_cell(row, method) for method in ("limit", OURS)),
            "-" if row["waits"] is None else str(row["waits"]),
        ]
        for row in rows
    ]
    return table(header, cells)


def replay_cell(row: Mapping[str, Any], method: str) -> str:
    if method in row["replays"]:
        return str(row["replays"][method])
    return f"not capturable: {row['reasons'][method]}"


def absent_methods(rows: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """A list of the methods that a row lacks."""
    reasons: dict[tuple[str, str, str], None] = {}
    for row in rows:
        reasons |= {(row["network"], *each): None for each in row["absent"].items()}
    if reasons:
        lines = (f"- {network}, {name}: {reason}" for network, name, reason in reasons)
        yield "Methods that are absent:"
        yield "\n".join(lines)
