"""What the policy node says of itself: a status for /diagnostics and one JSON line per policy call."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from typing import Any

from diagnostic_msgs.msg import DiagnosticStatus, KeyValue

from ..observation.streams import info_of, is_image
from ..observation.synchronizer import Synchronizer
from ..viewer.live import LiveView
from .commander import Commander
from .loading import Loaded
from .parameters import Settings
from .worker import MAX_FAILURES, Result, Worker

OK, WARN, ERROR = DiagnosticStatus.OK, DiagnosticStatus.WARN, DiagnosticStatus.ERROR
LEVEL_NAMES = {OK: "OK", WARN: "WARN", ERROR: "ERROR", DiagnosticStatus.STALE: "STALE"}
SLOW_IN_A_ROW = 5  # one slow call is a warning, this many an error
LOSS_WINDOW_S, LEAST_INFOS, LEAST_SHARE = 4.0, 20, 0.8  # when images count as lost, see ``lost_images``
PROFILE_REMEDY = (
    "start the camera driver with FASTDDS_DEFAULT_PROFILES_FILE, and for ROS Jazzy and older "
    "FASTRTPS_DEFAULT_PROFILES_FILE, set to this package's node/fastdds.xml"
)
REFUSED_LATELY_S = 2.0  # one bad message is seen by every look at the diagnostics, a stream of them is one warning


def _text(value: Any) -> str:
    if isinstance(value, float):
        return "unknown" if math.isnan(value) else f"{value:.3f}"
    return str(value)


@dataclass(frozen=True)
class View:
    """The node as a look at its diagnostics finds it.

    Attributes:
        name: of the node. loaded: None while it is not configured. worker: None while it is not active.
        refused: why the last instruction was refused.
        image_publishers: how many publish images: some, but no frame, points to a shared-memory segment too small.
        links: what is wrong between this node's topics and those at their other ends, see ``qos_checks``.
        live_view: None where none was asked for.
    """

    name: str
    settings: Settings
    loaded: Loaded | None
    worker: Worker | None
    store: Synchronizer
    commander: Commander
    refused: str | None
    image_publishers: int
    links: list[str]
    live_view: LiveView | None = None

    @property
    def _max_age_s(self) -> float:
        return self.settings["max_observation_age_ms"] / 1e3

    def status(self) -> DiagnosticStatus:
        """One status with everything; its level is that of the worst finding, its message names them all."""
        active = self.commander.active
        found = self._findings() if active else [(WARN, "not active: no commands are published")]
        if self.refused:
            found.append((WARN, self.refused))
        found.sort(key=lambda finding: finding[0], reverse=True)
        return DiagnosticStatus(
            level=found[0][0] if found else OK,
            name=f"{self.name}: inference",
            message="; ".join(text for _, text in found) or "running",
            hardware_id=self._device,
            values=[KeyValue(key=k, value=_text(v)) for k, v in self._values().items()],
        )

    def _findings(self) -> list[tuple[bytes, str]]:
        """What is not as it should be, in an active node: level and text."""
        found: list[tuple[bytes, str]] = []
        if not self.settings["instruction"]:
            found.append((WARN, "no instruction: set the parameter instruction or publish on ~/instruction"))
        silent = self.store.silent(self._max_age_s)
        if silent:
            found.append((ERROR, self._silence(silent)))
        elif lost := lost_images(self.store):
            found.append((WARN, lost))
        found += [(WARN, text) for text in self.links]
        worker = self.worker
        if worker is not None and worker.failure:
            stuck = worker.failures >= MAX_FAILURES
            remedy = "; call ~/reset" if stuck and worker.alive else ""
            found.append((ERROR if stuck else WARN, worker.failure + remedy))
        if worker is not None and time.monotonic() - worker.refused_at < REFUSED_LATELY_S:
            found.append((WARN, worker.refusal))
        if worker is not None and time.monotonic() - worker.report_failed_at < REFUSED_LATELY_S:
            found.append((WARN, f"a report of a policy call failed: {worker.report_failure}"))
        if self.live_view is not None and self.live_view.failure:
            found.append((WARN, f"the view shows nothing: {self.live_view.failure}"))
        found += self.commander.findings()
        if self.commander.clock_stopped():
            found.append((ERROR, "the clock stands still: the arm is stopped"))
        return found if worker is None else found + self._lateness(worker, bool(found))

    def _silence(self, silent: list[str]) -> str:
        silence = self.store.silence(self._max_age_s)
        text = f"no data for more than {self._max_age_s:g} s on {silence}: the arm is stopped"
        none_came = self.store.topics["image"] in silent and self.image_publishers and self.store.frames_received == 0
        if none_came and len(silent) < len(self.store.topics):  # small messages come, only the large ones are lost
            lost = no_image_of(self.image_publishers)
        elif none_came:
            lost = "there are publishers, but none has sent anything yet"
        else:
            lost = lost_images(self.store)
        return f"{text}; {lost}" if lost else text

    def _lateness(self, worker: Worker, known: bool) -> list[tuple[bytes, str]]:
        """Calls that are slow, hang, are not made or come too late. known: a cause of the last two was found."""
        found: list[tuple[bytes, str]] = []
        slow_ms, max_age_s = self.settings["slow_policy_ms"], self._max_age_s
        if slow := worker.slow_in_a_row(slow_ms):
            found.append((ERROR if slow >= SLOW_IN_A_ROW else WARN, f"policy calls slower than {slow_ms:g} ms"))
        if worker.busy_s() > max(max_age_s, slow_ms / 1e3):
            found.append((ERROR, f"a policy call has not returned for {worker.busy_s():.1f} s: the arm is stopped"))
        elif not known and not found and worker.idle_s() > max_age_s:
            tolerance_ns = round(self.settings["sync_tolerance_ms"] * 1e6)
            reason = self.store.unmatched_reason(tolerance_ns) or "see the counts of what was dropped"
            found.append((ERROR, f"no image found its partners for more than {max_age_s:g} s: the arm is stopped; "
                          f"{reason}"))  # fmt: skip
        elif not known and not found and worker.last is not None and self.commander.stopped_s() > max_age_s:
            chunk = worker.last.inference.chunk
            found.append((ERROR, f"actions come too late: a chunk lasts {len(chunk.actions) * chunk.step_s * 1e3:.0f} "
                          "ms and is over before it is in place: the arm is stopped; see age_ms on "
                          "~/pruning"))  # fmt: skip
        return found

    @property
    def _device(self) -> str:
        return self.loaded.policy.device_name if self.loaded else self.settings["device"]

    def _values(self) -> dict[str, Any]:
        """Figures by key."""
        policy, worker, store = self.loaded and self.loaded.policy, self.worker, self.store
        values: dict[str, Any] = {
            "instruction": self.settings["instruction"],
            "device": self._device,
            "device_memory_mb": policy.memory_mb() if policy else 0.0,
            "late_shapes": policy.late_shapes if policy else 0,
            "pruning": bool(self.loaded and self.loaded.runtime.prune and self.settings["method"] != "none"),
        }
        if worker is not None:
            values["policy_rate_hz"] = worker.rate_hz()
            if worker.last is not None:
                values |= call_values(worker.last)
        if self.live_view is not None:
            values["view_dropped"] = self.live_view.dropped
        values["frames_received"] = store.frames_received
        values |= {f"age_s {store.topics[n]}": math.nan if a is None else a for n, a in store.ages_s().items()}
        values |= self.commander.counts | {"clock_stopped": self.commander.clock_stopped()}
        return values | {f"dropped {cause}": count for cause, count in sorted(store.drops.items())}


def call_values(result: Result) -> dict[str, Any]:
    """Figures of one policy call, flat, units in the names."""
    inference = result.inference
    stats, ms = inference.stats, inference.stage_ms
    share = inference.selection.image_share
    return {
        "image_in": stats.image_in,
        "image_kept": stats.image_kept,
        "points_in": stats.points_in,
        "points_kept": stats.points_kept,
        "keep_ratio": inference.selection.keep_ratio,
        "salience_share_2d": share,
        "salience_share_3d": 1 - share,
        "policy_ms": inference.policy_ms,
        **{f"{name}_ms": value for name, value in ms.items()},
        "latency_ms": result.latency_ms,
        "waited_ms": result.waited_ms,
        **{f"kept_{reason}": count for reason, count in stats.by_reason.items() if reason != "dropped"},
    }


def no_image_of(publishers: int) -> str:
    """Images are published and none arrives, in words."""
    return f"{publishers} publisher of images is matched but no frame arrives: {PROFILE_REMEDY}"


def lost_images(store: Synchronizer) -> str:
    """What is wrong when images are lost on the way; the small camera infos, sent with them, hardly ever are."""
    lost = []
    for name in filter(is_image, store.topics):
        images, infos = (store.arrived(stream, LOSS_WINDOW_S) for stream in (name, info_of(name)))
        if infos >= LEAST_INFOS and images <= LEAST_SHARE * infos:
            lost.append(f"{images} of {infos} images arrived in the last {LOSS_WINDOW_S:g} s on {store.topics[name]}")
    return f"{', '.join(lost)}: {PROFILE_REMEDY}" if lost else ""
