"""``mvla demo``: episodes of each task, a table, report.json and a GIF of what the policy was shown."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image as Picture
from PIL import ImageDraw
from rich.console import Console
from rich.progress import TaskID
from rich.table import Table
from sensor_msgs.msg import Image

from ...configuration.files import write_json
from ...evaluation.grouping import grouped
from ...messages.decode import image_to_rgb, stamp_ns
from ...reports.terminal import ProgressBar, table
from ...sim.metaworld.robot import STEP_S
from ...sim.tasks import Task
from .. import qos
from ..graph import Graph
from ..listener import keep_ratio_of, kept_of, median_of, tokens_of
from .session import DemoOptions, DemoSession, EpisodeLog

GIF_EDGE_PX = 384
GIF_PERIOD_S = 0.05  # simulated time between pictures; played at half speed
GIF_FRAME_MS = 100
GIF_HOLD_FRAMES = 8  # the last picture of an episode stays for so many


class OverlayFilm:
    """Collects ``/policy/overlay`` while it listens; the policy node draws overlays only then."""

    def __init__(self, session: DemoSession) -> None:
        self._session = session
        self._subscription: Any = None
        self._shots: list[tuple[np.ndarray, str]] = []
        self._last_s = 0.0
        self._first = 0
        self._caption = ""

    def start(self, task: Task, seed: int) -> None:
        """Film the episode that is about to begin."""
        self._caption, self._first, self._last_s = task.instruction, len(self._shots), 0.0
        self._subscription = self._session.node.create_subscription(Image, "/policy/overlay", self._take, qos.SENSOR)
        # Filming from the first frame on needs the publisher to know of us before the episode begins.
        node = self._session.node
        self._session.spin_until(lambda: node.count_publishers("/policy/overlay") > 0, 10.0, "the overlay topic")

    def stop(self, log: EpisodeLog) -> None:
        """End of the episode: its last picture stays longer, with the outcome."""
        self._session.node.destroy_subscription(self._subscription)
        if len(self._shots) > self._first:
            picture = self._shots[-1][0]
            outcome = f"{self._caption}: {'success' if log.success else 'no success'} after {log.steps} steps"
            self._shots += [(picture, outcome)] * GIF_HOLD_FRAMES

    def _take(self, message: Image) -> None:
        stamp = stamp_ns(message.header) * 1e-9
        if stamp - self._last_s < GIF_PERIOD_S or message.encoding != "rgb8":
            return
        self._last_s = stamp
        pixels = image_to_rgb(message)
        pruning = self._session.pruning
        kept = f"  {kept_of(pruning)} of {tokens_of(pruning)} tokens" if pruning else ""
        self._shots.append((pixels.copy(), self._caption + kept))

    def save(self, path: Path) -> bool:
        """Write the GIF; False when nothing was filmed."""
        pictures = []
        for pixels, caption in self._shots:
            height, width = (round(n * GIF_EDGE_PX / max(pixels.shape[:2])) for n in pixels.shape[:2])
            canvas = Picture.new("RGB", (width, height + 18), "black")
            canvas.paste(Picture.fromarray(pixels).resize((width, height), Picture.Resampling.BILINEAR))
            ImageDraw.Draw(canvas).text((6, height + 3), caption, fill="white")
            pictures.append(canvas.quantize(64, dither=Picture.Dither.NONE))
        if pictures:
            pictures[0].save(path, save_all=True, append_images=pictures[1:], duration=GIF_FRAME_MS, loop=0)
        return bool(pictures)


def run_demo(options: DemoOptions, episodes: int, gif: bool = True) -> int:
    """Run, print, write; returns the exit code: 1 when a node failed.

    Args:
        episodes: of each task. gif: whether to write demo.gif (of the first episode of each task).

    Raises:
        ValueError: ``episodes`` is below 1.
    """
    if episodes < 1:
        raise ValueError(f"episodes must be at least 1, got {episodes}")
    console = Console(stderr=False)
    console.print(
        f"policy: {options.method}, keep {options.keep_ratio:g}; "
        f"simulator: {options.real_time_factor:g} x real time, {len(options.tasks)} tasks x {episodes} episodes"
    )
    with Graph("demo", options.domain_id) as graph:
        session = DemoSession(options, graph)
        with console.status("starting simulator and policy node ..."):
            session.wait_until_ready()
        logs, film = _play(session, episodes, gif, console)
        session.settle()
        report = make_report(session, logs)
    path = options.out / "report.json"
    write_json(path, report, indent=2)
    console.print(_table(logs, report))
    filmed = gif and film.save(options.out / "demo.gif")
    console.print(f"wrote {path}" + (f" and {options.out / 'demo.gif'}" if filmed else ""))
    return 0


def _play(session: DemoSession, episodes: int, gif: bool, console: Console) -> tuple[list[EpisodeLog], OverlayFilm]:
    logs: list[EpisodeLog] = []
    film = OverlayFilm(session)
    options = session.options
    total = len(options.tasks) * episodes
    with ProgressBar("episodes", total, console=console, transient=True) as progress:
        for task in options.tasks:
            bar = progress.add_task(task.name, total=options.max_steps or task.max_steps, note="")
            for number in range(episodes):
                seed = options.seed + number

                def show(log: EpisodeLog, bar: TaskID = bar) -> None:
                    note = f"seed {log.seed}"
                    if log.inferences:
                        last = log.inferences[-1]
                        note += f"  {kept_of(last)} of {tokens_of(last)} tokens  {last['policy_ms']:.0f} ms"
                    progress.update(bar, completed=log.steps, note=note)

                if gif and number == 0:
                    film.start(task, seed)
                log = session.run_episode(task, seed, show)
                if gif and number == 0:
                    film.stop(log)
                logs.append(log)
                progress.step()
                result = "[green]success[/]" if log.success else "[yellow]no success[/]"
                progress.console.print(f"{task.name}, seed {seed}: {result} after {log.steps} steps")
            progress.remove_task(bar)
    return logs, film


def make_report(session: DemoSession, logs: list[EpisodeLog]) -> dict[str, Any]:
    """What report.json holds."""
    options = session.options
    calls = [call for log in logs for call in log.inferences]
    simulated_s = STEP_S * sum(log.steps for log in logs)
    return {
        "episodes": [
            {
                "task": log.task,
                "success": log.success,
                "steps": log.steps,
                "seed": log.seed,
                "keep_ratio": keep_ratio_of(log.inferences),
                "policy_ms_p50": median_of(log.inferences, "policy_ms"),
            }
            for log in logs
        ],
        "success_rate": round(sum(log.success for log in logs) / len(logs), 4),
        "method": options.method,
        "keep_ratio_asked": options.keep_ratio,
        "keep_ratio": keep_ratio_of(calls),
        "inferences": len(calls),
        "calls_per_second": round(len(calls) / max(session.status["running_s"], 1e-3), 1),
        "policy_ms_p50": median_of(calls, "policy_ms"),
        "observation_age_ms_p50": median_of(calls, "age_ms"),
        "frames_sent": session.status["frames_sent"],
        "frames_received": session.frames_received,
        "real_time_factor_asked": options.real_time_factor,
        "real_time_factor": round(simulated_s / max(session.status["running_s"], 1e-3), 3),
    }


def _table(logs: list[EpisodeLog], report: dict[str, Any]) -> Table:
    lost = report["frames_sent"] - report["frames_received"]
    title = (
        f"{lost} of {report['frames_sent']} frames lost; {report['real_time_factor']:.2f} x real time, "
        f"{report['calls_per_second']:g} policy calls a second"
    )
    rows = []
    for task, of_task in grouped(logs, lambda log: log.task).items():
        calls = [call for log in of_task for call in log.inferences]
        rows.append(
            (
                task,
                f"{sum(log.success for log in of_task)} / {len(of_task)}",
                f"{np.mean([log.steps for log in of_task]):.0f}",
                f"{np.mean(list(map(kept_of, calls))):.0f} / {tokens_of(calls[0])}" if calls else "-",
                f"{np.median([call['policy_ms'] for call in calls]):.1f}" if calls else "-",
            )
        )
    return table(title, ("task", "success", "steps", "tokens kept", "policy ms"), rows)
