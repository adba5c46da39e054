"""The results as a fragment of a document."""

from __future__ import annotations

from typing import Any

from .suite import DONE


def fragment(content: dict[str, Any]) -> str:
    """Markdown: a heading, what was run, one table for each part that gave rows."""
    there = content["machine"]
    lines = [f"## On {there['device']}", "", f"torch {there['torch']}, Python {there['python']}, host {there['cpu']}."]
    if there["tiny"]:
        lines += ["", "**A rehearsal with tiny networks: the figures mean nothing.**"]
    lines += ["", "| part | | seconds |", "| --- | --- | ---: |"]
    for name, part in content["parts"].items():
        note = part["state"] if "reason" not in part else f"{part['state']}: {part['reason'].splitlines()[0]}"
        lines.append(f"| {name} | {note} | {part.get('seconds', '')} |")
    for name, part in content["parts"].items():
        if part["state"] == DONE and part.get("rows"):
            lines += ["", f"**{name}**", "", *_table(part["rows"])]
    return "\n".join(lines) + "\n"


# Of a row of the latency benchmark, what a reader compares.
_LATENCY = {
    "variant": "variant", "precision": "precision", "keep_ratio": "keep", "tokens": "visual tokens",
    "policy_ms_p50": "policy call, ms", "policy_ms_p99": "p99", "backbone_ms_p50": "backbone, ms",
    "floor_ms": "least time of it, ms", "selection_ms_p50": "selection, ms", "speed_up": "speed-up",
    "peak_device_mib": "memory, MiB",
}  # fmt: skip


def _table(rows: list[dict[str, Any]]) -> list[str]:
    columns = _LATENCY if "policy_ms_p50" in rows[0] else {name: name for name in rows[0]}
    cells = [[_cell(row[name]) for name in columns] for row in rows]
    head = [list(columns.values()), ["---"] * len(columns)]
    return ["| " + " | ".join(line) + " |" for line in [*head, *cells]]


def _cell(value: Any) -> str:
    return (
        f"{value:.3g}"
        if isinstance(value, float) and value < 100
        else f"{value:.0f}"
        if isinstance(value, float)
        else str(value)
    )
