"""``mvla demo``: episodes of each task, a table, report.json and a GIF of what the policy was shown."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from rich.console import Console
from rich.progress import TaskID

from ...configuration.files import write_json
from ...evaluation.grouping import grouped
from ...reports.terminal import ProgressBar
from ...sim.wiring import wiring_of
from ..graph import Graph
from ..listener import kept_of, tokens_of
from .film import OverlayFilm
from .report import comparison, make_report, task_table
from .session import UNPRUNED, DemoOptions, DemoSession, EpisodeLog, Way


@dataclass
class Played:
    """Episodes of several sessions, and the frames that were sent and received in them."""

    logs: list[EpisodeLog] = field(default_factory=list)
    film: OverlayFilm = field(default_factory=OverlayFilm)
    frames: dict[str, int] = field(default_factory=lambda: {"sent": 0, "received": 0})


def run_demo(options: DemoOptions, episodes: int, gif: bool = True, compare: bool = False) -> int:
    """Run, print, write; returns the exit code: 1 when a node failed.

    Args:
        episodes: of each task. gif: whether to write demo.gif (of the first episode of each task).
        compare: play each episode without pruning first.

    Raises:
        ValueError: ``episodes`` is below 1, or there is nothing to compare.
    """
    if episodes < 1:
        raise ValueError(f"episodes must be at least 1, got {episodes}")
    asked = Way(options.method, options.keep_ratio)
    if compare and options.method == "none":
        raise ValueError("--compare plays each episode without pruning and with it, but --method none prunes nothing")
    ways = [UNPRUNED, asked] if compare else [asked]
    console, played = Console(stderr=False), Played()
    console.print(
        f"policy: {' and '.join(way.name for way in ways)}; simulator: {options.real_time_factor:g} x real time, "
        f"{len(options.tasks)} tasks x {episodes} episodes"
    )
    # The policy node is told at its start where the cameras stand.
    for number, tasks in enumerate(grouped(options.tasks, lambda task: wiring_of(task.name).task).values()):
        suffix = f"_{number + 1}" if number else ""
        with Graph("demo", options.domain_id) as graph:
            session = DemoSession(replace(options, tasks=tuple(tasks)), graph, suffix)
            with console.status("starting simulator and policy node ..."):
                session.wait_until_ready()
            _play(session, episodes, ways, gif, played, console)
            session.settle()
            played.frames["sent"] += session.status["frames_sent"]
            played.frames["received"] += session.frames_received
    report = make_report(options, played.logs, played.frames)
    path = options.out / "report.json"
    write_json(path, report, indent=2)
    console.print((comparison if compare else task_table)(played.logs, report))
    filmed = gif and played.film.save(options.out / "demo.gif")
    console.print(f"wrote {path}" + (f" and {options.out / 'demo.gif'}" if filmed else ""))
    return 0


def _play(
    session: DemoSession, episodes: int, ways: Sequence[Way], gif: bool, played: Played, console: Console
) -> None:
    """All episodes of the session's tasks, each scene in all ways before the next one."""
    options, film = session.options, played.film
    total = len(options.tasks) * episodes * len(ways)
    with ProgressBar("episodes", total, console=console, transient=True) as progress:
        for task in options.tasks:
            bar = progress.add_task(task.name, total=options.max_steps or task.max_steps, note="")
            for seed in range(options.seed, options.seed + episodes):
                for way in ways:
                    if filmed := gif and seed == options.seed:
                        film.start(session, task, way)

                    def show(log: EpisodeLog, bar: TaskID = bar) -> None:
                        progress.update(bar, **_now(log))

                    log = session.run_episode(task, seed, way, show)
                    if filmed:
                        film.stop(log)
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
