"""What the policy node says of itself: a status for /diagnostics and one JSON line per policy call."""

from __future__ import annotations

import json
import math
import time
from typing import Any

from diagnostic_msgs.msg import DiagnosticStatus, KeyValue

from ..observation.synchronizer import Synchronizer
from .worker import MAX_FAILURES, Result, Worker

OK, WARN, ERROR = DiagnosticStatus.OK, DiagnosticStatus.WARN, DiagnosticStatus.ERROR
SLOW_IN_A_ROW = 5  # one slow call is a warning, this many an error
REFUSED_LATELY_S = 2.0  # one bad message is seen by every look at the diagnostics, a stream of them is one warning


def _text(value: Any) -> str:
    if isinstance(value, float):
        return "unknown" if math.isnan(value) else f"{value:.3f}"
    return str(value)


def inference_status(
    name: str, *, active: bool, worker: Worker | None, store: Synchronizer, silent: list[str], refused: str | None,
    max_age_s: float, slow_ms: float, instruction: str, device: str, memory_mb: float, late_shapes: int, pruning: bool,
    commands: dict[str, Any], motion: list[tuple[bytes, str]], image_publishers: int, links: list[str],
    stopped_s: float,
) -> DiagnosticStatus:  # fmt: skip
    """One status with everything; its level is that of the worst finding, its message names it.

    Args:
        late_shapes: see ``Policy``. pruning: whether calls are pruned, see parameter ``prune``.
        silent: topics that are silent. refused: why the last instruction was refused. commands: counters of commands.
        motion: why the arm may not be moved, each with its level.
        image_publishers: how many publish images: some, but no frame, points to a shared-memory segment too small.
        stopped_s: for how long the commands have been safe ones.
        links: what is wrong between this node's topics and those at their other ends, see ``links``.
    """
    findings: list[tuple[bytes, str]] = []
    if not active:
        findings.append((WARN, "not active: no commands are published"))
    else:
        if not instruction:
            findings.append((WARN, "no instruction: set the parameter instruction or publish on ~/instruction"))
        if silent:
            text = f"no data for more than {max_age_s:g} s on {', '.join(silent)}: the arm is stopped"
            if store.topics["image"] in silent and image_publishers and store.frames_received == 0:
                text += (
                    f"; {image_publishers} publisher of images is matched but no frame arrives: start it with "
                    "FASTDDS_DEFAULT_PROFILES_FILE set to this package's node/fastdds.xml"
                )
            findings.append((ERROR, text))
        findings += [(WARN, text) for text in links]
        if worker is not None and worker.failure:
            stuck = worker.failures >= MAX_FAILURES
            remedy = "; call ~/reset" if stuck and worker.alive else ""
            findings.append((ERROR if stuck else WARN, worker.failure + remedy))
        if worker is not None and time.monotonic() - worker.refused_at < REFUSED_LATELY_S:
            findings.append((WARN, worker.refusal))
        findings += motion
        if commands["clock_stopped"]:
            findings.append((ERROR, "the clock stands still: the arm is stopped"))
        if worker is not None and (slow := worker.slow_in_a_row(slow_ms)):
            findings.append((ERROR if slow >= SLOW_IN_A_ROW else WARN, f"policy calls slower than {slow_ms:g} ms"))
        if worker is not None and worker.busy_s() > max(max_age_s, slow_ms / 1e3):
            findings.append((ERROR, f"a policy call has not returned for {worker.busy_s():.1f} s: the arm is stopped"))
        elif worker is not None and not findings and worker.idle_s() > max_age_s:
            findings.append(
                (ERROR, f"no image found its partners for more than {max_age_s:g} s: the arm is stopped; stamps of the "
                 "streams differ by more than sync_tolerance_ms, see the counts of what was dropped")
            )  # fmt: skip
        elif worker is not None and worker.last is not None and not findings and stopped_s > max_age_s:
            chunk = worker.last.inference.chunk
            findings.append(
                (ERROR, f"actions come too late: a chunk lasts {len(chunk.actions) * chunk.step_s * 1e3:.0f} ms and is "
                 "over before it is in place: the arm is stopped; see age_ms on ~/pruning")
            )  # fmt: skip
    if refused:
        findings.append((WARN, refused))
    values: dict[str, Any] = {"instruction": instruction, "device": device, "device_memory_mb": memory_mb,
                              "late_shapes": late_shapes, "pruning": pruning}  # fmt: skip
    if worker is not None:
        values["policy_rate_hz"] = worker.rate_hz()
        if worker.last is not None:
            values |= call_values(worker.last)
    values["frames_received"] = store.frames_received
    values |= {f"age_s {store.topics[n]}": math.nan if a is None else a for n, a in store.ages_s().items()}
    values |= commands
    values |= {f"dropped {cause}": count for cause, count in sorted(store.drops.items())}
    level, message = max(findings, key=lambda f: f[0], default=(OK, "running"))
    if len(findings) > 1:
        message = "; ".join(text for _, text in sorted(findings, key=lambda f: f[0], reverse=True))
    return DiagnosticStatus(
        level=level,
        name=name,
        message=message,
        hardware_id=device,
        values=[KeyValue(key=k, value=_text(v)) for k, v in values.items()],
    )


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


def call_json(result: Result, age_ms: float, frames_received: int) -> str:
    """One line of ``~/pruning``. age_ms: node-clock age of the observation when its chunk was in place."""
    values = {
        "stamp_ns": result.inference.chunk.stamp_ns,
        "age_ms": age_ms,
        "frames_received": frames_received,
        **call_values(result),
    }
    return json.dumps({k: None if isinstance(v, float) and math.isnan(v) else v for k, v in values.items()})
