"""Tables of rows: rows in, text out.

Rates are in per cent and differences in points, each with its 95 % interval in brackets: ``97 (-2 [-6.9, +2.1])``.
Times are simulated ones; their differences are of the episodes that both methods solved.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from ...pruning.methods import METHODS
from ..grouping import grouped
from .rows import OLD_REPLAN, Figures, MeanRow, Row
from .summary import BASELINES, COMPLETION, mean_rows, with_differences

MEAN = "mean"


@dataclass(frozen=True)
class Table:
    """Words in a grid.

    Attributes:
        title: what it shows. header: names of the columns. groups: lines of cells; groups belong together.
        left: so many columns are words, the others numbers.
    """

    title: str
    header: tuple[str, ...]
    groups: tuple[tuple[tuple[str, ...], ...], ...]
    left: int = 1


def markdown(table: Table) -> str:
    """GitHub's table format, under a heading."""
    marks = ["---"] * table.left + ["---:"] * (len(table.header) - table.left)
    lines = [table.header, tuple(marks), *(line for group in table.groups for line in group)]
    return f"### {table.title}\n\n" + "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n"


def document(rows: Sequence[Row]) -> str:
    """All tables of a result file, and the commands that made it, in markdown.

    Rows that were made under different conditions (policy, timing, sensors, seeds) come under different headings.

    Raises:
        ValueError: rows of one method were made with different calibrations of the policy.
    """
    complete = with_differences(rows)
    means = mean_rows(complete)
    text = []
    for conditions, part in grouped(complete, lambda row: row.conditions).items():
        _check_settings(part)
        first = part[0]
        name, fingerprint = first.policy["name"], first.policy["fingerprint"]
        seeds = f"{first.first_seed} to {first.first_seed + first.episodes - 1}"
        text.append(f"## Policy {name} ({fingerprint}), seeds {seeds}{_timing(first)}\n")
        of_part = [mean for mean in means if mean.conditions == conditions]
        text += [markdown(table) for table in tables(part, of_part)]
        text.append(_sources(part))
    return "\n".join(text)


def tables(rows: Sequence[Row], means: Sequence[MeanRow]) -> list[Table]:
    """The tables of rows and means of one condition; those that would be empty are left out."""
    plain = [r for r in rows if r.instruction_of is None]
    pruned = [r for r in plain if r.method != "none" and r.keep_asked < 1]
    found = [_unpruned(plain, means)]
    found += [_curve(method, pruned, means) for method in _methods(pruned)]
    found.append(_mean(means))
    suites = grouped(plain, lambda r: r.task.rpartition("/")[0])
    if len(suites) > 1:
        found += [_mean(mean_rows(of_suite), f" of {suite}") for suite, of_suite in suites.items() if suite]
    for method in _methods(pruned):
        for keep in sorted({r.keep_asked for r in pruned if r.method == method and r.pruning}, reverse=True):
            found.append(_ablation(method, keep, pruned, means))
    found.append(_exchanged([r for r in rows if r.instruction_of is not None]))
    return [table for table in found if any(table.groups)]


def overview(rows: Sequence[Row], means: Sequence[MeanRow]) -> Table:
    """Every row and mean, grouped by task: what ``mvla evaluate`` shows."""
    exchanged = any(r.instruction_of for r in rows)
    differences = [name for name in BASELINES if any(r.differences[name] for r in (*rows, *means))]
    header = ("task", "method", "keep", "measured", "steady", "success", "interval",
              *(d.replace("_", " ") for d in differences),
              "steps", "time, s", "path, m", "jerk, m/s^3",
              "policy ms", "select ms", *(["partner's goal"] if exchanged else []))  # fmt: skip

    def line(first: str, r: Row | MeanRow) -> tuple[str, ...]:
        cells = [
            first,
            _label(r),
            f"{r.keep_asked:g}",
            _number(r.keep_measured, 3),
            _number(r.keep_steady, 3),
            _successes(r),
            _interval(r.interval),
            *(_difference(r.differences[name]) for name in differences),
            _number(r.steps_median if isinstance(r, Row) else None, 0),
            _number(r.completion_s, 2),
            _number(r.path_m, 2),
            _number(r.jerk_m_s3, 1),
            _number(r.policy_ms_p50, 1),
            _number(r.selection_ms_p50, 1),
        ]
        partner = r.partner_successes if isinstance(r, Row) else None
        cells += ([""] if partner is None else [f"{partner}/{r.episodes}"]) if exchanged else []
        return tuple(cells)

    groups = [tuple(line(task, r) for r in part) for task, part in grouped(rows, lambda r: r.task).items()]
    if means:
        groups.append(tuple(line(f"{MEAN} of {len(m.tasks)} tasks", m) for m in means))
    title = "success in %, differences in points on the same seeds, 95 % intervals"
    return Table(title, header, tuple(groups), left=2)


def _unpruned(rows: Sequence[Row], means: Sequence[MeanRow]) -> Table:
    # Every method drives as `none` does when it keeps everything, so such a row serves where there is no other.
    full: dict[str, Row] = {r.task: r for r in rows if r.keep_asked == 1}
    full |= {r.task: r for r in rows if r.method == "none"}
    lines = [
        (
            r.task, _successes(r), _interval(r.interval), _number(r.steps_median, 0),
            _number(r.policy_ms_p50, 1),
        )
        for r in full.values()
    ]  # fmt: skip
    for m in means:
        if m.method == "none":
            policy_ms = _number(m.policy_ms_p50, 1)
            lines.append((_mean_label(m, len(full)), _successes(m), _interval(m.interval), "", policy_ms))
    return Table("Unpruned", ("task", "success", "interval", "steps (median)", "policy ms (p50)"), (tuple(lines),))


def _curve(method: str, rows: Sequence[Row], means: Sequence[MeanRow]) -> Table:
    own = [r for r in rows if r.method == method and not r.pruning]
    of_means = [m for m in means if m.method == method and not m.pruning and m.keep_asked < 1]
    keeps = sorted({r.keep_asked for r in own}, reverse=True)
    columns = {f"{keep:g}": [r for r in [*own, *of_means] if r.keep_asked == keep] for keep in keeps}
    return _by_task(f"{method} by keep ratio: success (minus none)", columns, _rate_minus("minus_none"))


def _ablation(method: str, keep: float, rows: Sequence[Row], means: Sequence[MeanRow]) -> Table:
    here = [r for r in [*rows, *means] if (r.method, r.keep_asked) == (method, keep)]
    changes = [c for c in dict.fromkeys(_changes(r) for r in here) if c]
    columns = {c or "own settings": [r for r in here if _changes(r) == c] for c in ["", *changes]}
    columns = {name: found for name, found in columns.items() if found}  # own settings may have run on more seeds
    title = f"{method} at keep ratio {keep:g}, settings changed: success (minus the policy's own settings)"
    return _by_task(title, columns, _rate_minus("minus_default"))


def _by_task(title: str, columns: dict[str, list[Figures]], cell: Callable[[Figures], str]) -> Table:
    """A line for each task and one for the mean, which is shown where it is over all of these tasks."""
    tasks = list(dict.fromkeys(r.task for found in columns.values() for r in found if isinstance(r, Row)))
    lines = []
    for task in tasks:
        of_task = ([r for r in found if isinstance(r, Row) and r.task == task] for found in columns.values())
        lines.append((task, *(_first(map(cell, found)) for found in of_task)))
    of_all = ([m for m in found if isinstance(m, MeanRow) and set(m.tasks) == set(tasks)] for found in columns.values())
    mean = [_first(map(cell, found)) for found in of_all]
    if any(mean):
        lines.append((f"{MEAN} of {len(tasks)} tasks", *mean))
    return Table(title, ("task", *columns), (tuple(lines),) if tasks else ())


def _mean(means: Sequence[MeanRow], of: str = "") -> Table:
    most = max((len(m.tasks) for m in means), default=0)
    ordered = sorted(means, key=lambda m: (-m.keep_asked, _order(m.method)))
    went = any(m.path_m is not None for m in means)  # not in older rows
    timed = any(COMPLETION in m.differences for m in means)
    lines = [
        (
            _label(m) + ("" if len(m.tasks) == most else f" ({len(m.tasks)} tasks)"),
            f"{m.keep_asked:g}",
            _number(m.keep_measured, 3),
            _successes(m),
            _interval(m.interval),
            _difference(m.differences["minus_none"]),
            _difference(m.differences["minus_random"]),
            _difference(m.differences["minus_tri_stage"]),
            _number(m.policy_ms_p50, 1),
            _number(m.selection_ms_p50, 2),
            *((_number(m.completion_s, 2), _number(m.path_m, 2), _number(m.jerk_m_s3, 1)) if went else ()),
            *((_seconds(m.differences.get(COMPLETION)),) if timed else ()),
        )
        for m in ordered
    ]
    header = ("method", "keep", "measured", "success", "interval", "minus none", "minus random",
              "minus tri_stage", "policy ms (p50)",
              "selection ms (p50)", *(("time, s", "path, m", "jerk, m/s^3") if went else ()),
              *(("time minus none, s",) if timed else ()))  # fmt: skip
    return Table(f"Mean of {most} tasks{of}", header, (tuple(lines),))


def _exchanged(rows: Sequence[Row]) -> Table:
    lines = [
        (
            r.task, r.instruction_of or "", _label(r), f"{r.keep_asked:g}", f"{r.successes}/{r.episodes}",
            f"{r.partner_successes}/{r.episodes}",
        )
        for r in rows
    ]  # fmt: skip
    header = ("scene of", "instruction of", "method", "keep", "own goal", "partner's goal")
    return Table("Instructions exchanged", header, (tuple(lines),), left=3)


def _sources(rows: Sequence[Row]) -> str:
    """Which commands made the rows, and on what."""
    made = dict.fromkeys((r.command, json.dumps(r.machine)) for r in rows)
    lines = []
    for command, text in made:
        machine = json.loads(text)
        where = f"{machine['cpu']}, {machine['cores']} cores, Python {machine['python']}, torch {machine['torch']}"
        lines.append(f"- `{command}` ({where})")
    return "Made by:\n\n" + "\n".join(lines) + "\n"


def _timing(r: Row) -> str:
    """What is not as it was in rows of older versions, in words."""
    late = f", actions {r.delay} steps after their observation" if r.delay else ""
    late += f", latency {r.latency}" if r.latency else ""
    late += f", sensors {r.sensors}" if r.sensors else ""
    return late + (f", observations every {r.replan} steps" if r.replan and r.replan != OLD_REPLAN else "")


def _check_settings(rows: Sequence[Row]) -> None:
    seen: dict[tuple[str, str], Row] = {}
    for r in rows:
        other = seen.setdefault((r.method, _changes(r)), r)
        if other.tri_stage != r.tri_stage:
            raise ValueError(
                f"{_label(r)} was run with different calibrations of the policy on {other.task} and {r.task}: "
                f"run again what was made before the calibration changed; the commands are\n  {other.command}\n"
                f"  {r.command}"
            )


def _rate_minus(name: str) -> Callable[[Figures], str]:
    def cell(r: Figures) -> str:
        rate = _percent(r.rate)
        return rate if r.differences[name] is None else f"{rate} ({_difference(r.differences[name])})"

    return cell


def _successes(r: Row | MeanRow) -> str:
    return f"{_percent(r.success)} %" if isinstance(r, MeanRow) else f"{r.successes}/{r.episodes}"


def _mean_label(m: MeanRow, tasks: int) -> str:
    return f"{MEAN} of {len(m.tasks)} tasks" if len(m.tasks) != tasks else MEAN


def _methods(rows: Sequence[Figures]) -> list[str]:
    return sorted({r.method for r in rows}, key=_order)


def _order(method: str) -> int:
    return METHODS.index(method) if method in METHODS else len(METHODS)


def _changes(r: Figures) -> str:
    return ", ".join(f"{name}={json.dumps(value)}" for name, value in r.pruning.items())


def _label(r: Figures) -> str:
    return " ".join(filter(None, (r.method, _changes(r))))


def _interval(bounds: Sequence[float]) -> str:
    return "[" + ", ".join(_percent(x) for x in bounds) + "]"


def _difference(values: Sequence[float] | None) -> str:
    if values is None:
        return ""
    points = [f"{round(100 * x, 1):+g}" if round(100 * x, 1) else "0" for x in values]
    return f"{points[0]} [{points[1]}, {points[2]}]"


def _seconds(values: Sequence[float] | None) -> str:
    return "" if values is None else "{:+.2f} [{:+.2f}, {:+.2f}]".format(*values)


def _percent(rate: float) -> str:
    return f"{round(100 * rate, 1):g}"


def _number(value: float | None, digits: int) -> str:
    return "-" if value is None else f"{value:.{digits}f}"


def _first(cells: Iterable[str]) -> str:
    return next(iter(cells), "")
