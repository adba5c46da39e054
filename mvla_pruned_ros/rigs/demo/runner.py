"""``mvla demo``: episodes of each task, a table, report.json and report.html, a GIF of what the policy was shown."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from rich.console import Console
from rich.progress import TaskID

from ...configuration.files import write_json
from ...evaluation.grouping import grouped
from ...reports.terminal import ProgressBar
from ...sim.wiring import wiring_of
from ...viewer.target import ENDING
from ..graph import Graph
from ..listener import kept_of, tokens_of
from .film import OverlayFilm
from .page import draw_page
from .report import NOTE, Played, comparison, make_report, task_table, verdict
from .session import UNPRUNED, DemoOptions, DemoSession, EpisodeLog, Way


def run_demo(
    options: DemoOptions, episodes: int, gif: bool = True, compare: bool = False, also: DemoOptions | None = None
) -> bool:
    """Run, print, write; returns whether every episode was solved, those that were played unpruned to compare left out.

    Args:
        episodes: of each task. gif: whether to write demo.gif (of the first episode of each task).
        compare: play each episode without pruning first. also: of another policy, which is played afterwards.

    Raises:
        ValueError: ``episodes`` is below 1, or there is nothing to compare.
        ChildFailedError: a node failed.
    """
    if episodes < 1:
        raise ValueError(f"episodes must be at least 1, got {episodes}")
    if compare and options.method == "none":
        raise ValueError("--compare plays each episode without pruning and with it, but --method none prunes nothing")
    console, film, runs = Console(stderr=False), OverlayFilm(), []
    sessions = 0
    for each in filter(None, (options, also)):
        ways = [*([UNPRUNED] if compare else []), Way(each.method, each.keep_ratio)]
        runs.append(played := Played(each))
        console.print(
            f"policy {each.policy_name}: {' and '.join(way.name for way in ways)}; simulator: "
            f"{each.real_time_factor:g} x real time, {len(each.tasks)} tasks x {episodes} episodes"
        )
        # The policy node is told at its start where the cameras stand.
        for tasks in grouped(each.tasks, lambda task: wiring_of(task.name).task).values():
            sessions += 1
            view = each.view.replace(ENDING, f"_{sessions}{ENDING}") if sessions > 1 else each.view
            _run(replace(each, tasks=tuple(tasks), view=view), sessions, episodes, ways, film if gif else None, played,
                 console)  # fmt: skip
    _write(runs, film, compare or also is not None, console)
    return all(log.success for played in runs for log in played.pruned)


def _write(runs: Sequence[Played], film: OverlayFilm, side_by_side: bool, console: Console) -> None:
    """Print the table and the sentence below it, and write all files."""
    out, first = runs[0].options.out, make_report(runs[0])
    if len(runs) > 1:
        first["also"] = [make_report(played) for played in runs[1:]]
    write_json(out / "report.json", first | {"verdict": verdict(runs)}, indent=2)
    filmed = film.save(out / "demo.gif")
    (out / "report.html").write_text(draw_page(runs, filmed), encoding="utf-8")
    console.print(comparison(runs) if side_by_side else task_table(runs[0]))
    if words := verdict(runs):
        console.print(f"[bold]{words}[/] {NOTE}")
    console.print(
        f"wrote {out / 'report.html'} (open it in a browser), report.json{', demo.gif' if filmed else ''} and the "
        f"logs of both nodes, {out / '*.log'}"
    )


def _run(
    options: DemoOptions, number: int, episodes: int, ways: Sequence[Way], film: OverlayFilm | None, played: Played,
    console: Console,
) -> None:  # fmt: skip
    """One pair of nodes. Args: number: of the pair. film: None for no GIF."""
    with Graph("demo", options.domain_id) as graph:
        session = DemoSession(options, graph, f"_{number}" if number > 1 else "")
        with console.status("starting simulator and policy node ..."):
            session.wait_until_ready()
        _play(session, episodes, ways, film, played, console)
        session.settle()
        played.frames["sent"] += session.status["frames_sent"]
        played.frames["received"] += session.frames_received


def _play(
    session: DemoSession, episodes: int, ways: Sequence[Way], film: OverlayFilm | None, played: Played, console: Console
) -> None:
    """All episodes of the session's tasks, each scene in all ways before the next one."""
    options = session.options
    total = len(options.tasks) * episodes * len(ways)
    with ProgressBar("episodes", total, console=console, transient=True) as progress:
        for task in options.tasks:
            bar = progress.add_task(task.name, total=options.max_steps or task.max_steps, note="")
            for seed in range(options.seed, options.seed + episodes):
                for way in ways:
                    filming = film if seed == options.seed else None
                    if filming is not None:
                        filming.start(session, task, way)

                    def show(log: EpisodeLog, bar: TaskID = bar) -> None:
                        progress.update(bar, **_now(log))

                    log = session.run_episode(task, seed, way, show)
                    if filming is not None:
                        filming.stop(log)
                    played.logs.append(log)
                    progress.step()
                    _say(log, progress.console, len(ways) > 1)
            progress.remove_task(bar)


def _now(log: EpisodeLog) -> dict[str, Any]:
    """How far an episode is, for its bar."""
    note = f"seed {log.seed}"
    if log.inferences:
        last = log.inferences[-1]
        note += f"  {kept_of(last)} of {tokens_of(last)} tokens  {last['policy_ms']:.0f} ms"
    return {"completed": log.steps, "note": note}


def _say(log: EpisodeLog, console: Console, with_way: bool) -> None:
    result = "[green]success[/]" if log.success else "[yellow]no success[/]"
    way = f", {log.way.name}" if with_way else ""
    console.print(f"{log.task}, seed {log.seed}{way}: {result} after {log.steps} steps")
