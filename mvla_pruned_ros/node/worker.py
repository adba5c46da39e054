"""The one inference thread: newest matched set in, chunk out."""

from __future__ import annotations

import math
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch

from ..control.chunk_buffer import ChunkBuffer
from ..messages.decode import ConversionError, stamp_ns
from ..observation.frames import TransformError
from ..observation.synchronizer import MatchedMessages, Synchronizer
from ..policy.mvla.preprocess import NotReadyError
from ..policy.runtime import Inference, PolicyRuntime
from ..pruning.base import Pruner
from ..pruning.methods import make_pruner
from ..pruning.tri_stage.pruner import TriStagePruner
from ..types import Observation
from .parameters import Settings

MAX_FAILURES = 5  # in a row; then the worker waits for ~/reset
IDLE_S = 0.1  # how soon a stop is noticed
JOIN_S = 1.5  # a policy call that hangs longer than this is left behind


@dataclass(frozen=True)
class Result:
    """One policy call that worked: what was seen, what came out, when."""

    observation: Observation
    inference: Inference
    latency_ms: float  # steady time from the arrival of the image to the chunk being in place
    waited_ms: float  # part of it in which the call before still ran
    stamps: dict[str, int]  # stream -> header stamp of the message that was used, nanoseconds
    since_reset: int  # calls before this one since everything was forgotten
    pruner: Pruner  # in force. Read it in ``on_result``: later it may have been changed
    prune: bool  # False: all tokens stayed because pruning does not pay here


class Worker:
    """Runs ``PolicyRuntime.infer`` on its own thread.

    Attributes:
        failure: why the last call failed, None after one that worked. failures: calls in a row that failed.
        refusal: why the last message that could not be used was refused. refused_at: steady seconds of that.
        report_failure: why a call could not be reported. report_failed_at: steady seconds of that.
        calls: monotonic times of recent calls. last: the last result.
        seen_ns: stamp of the oldest message behind the newest chunk.
    """

    def __init__(
        self, runtime: PolicyRuntime, store: Synchronizer, chunks: ChunkBuffer, settings: Callable[[], Settings],
        observe: Callable[[MatchedMessages, Settings], Observation], on_result: Callable[[Result], None],
    ) -> None:  # fmt: skip
        """Args: settings: newest snapshot. observe: messages to an observation (raises ConversionError). on_result:
        called on the worker's thread."""
        self._runtime, self._store, self._chunks = runtime, store, chunks
        self._settings, self._observe, self._on_result = settings, observe, on_result
        self._applied: Settings | None = None
        self._halved = False  # the keep ratio, for one call
        self._instruction = ""
        self._reset_wanted = threading.Event()
        self._stop = threading.Event()
        self._generation = chunks.generation
        self._camera_shapes: list[tuple[float, ...]] | None = None
        self.failure: str | None = None
        self.failures = 0
        self.refusal, self.refused_at = "", -math.inf
        self.report_failure, self.report_failed_at = "", -math.inf
        self.calls: deque[float] = deque(maxlen=50)
        self.policy_ms: deque[float] = deque(maxlen=50)
        self.last: Result | None = None
        self._free_at = 0.0  # steady seconds when the worker began to wait for a new image
        self._changed_at = 0.0  # steady seconds when a call began or ended
        self._busy = False
        self.used_at = -math.inf  # steady seconds when the image of the newest chunk arrived
        self.seen_ns = 0
        self._thread = threading.Thread(target=self._run, name="inference", daemon=True)

    def start(self) -> None:
        self._changed_at = time.monotonic()
        self._thread.start()

    def stop(self) -> bool:
        """Ask the thread to end and wait for it, bounded; False when it hangs in a call."""
        self._stop.set()
        self._store.interrupt()
        self._thread.join(JOIN_S)
        return not self._thread.is_alive()

    @property
    def alive(self) -> bool:
        """Whether the thread still runs."""
        return self._thread.is_alive()

    def reset(self) -> None:
        """Forget the episode before the next call; also ends the wait after too many failures."""
        self._reset_wanted.set()
        self._store.interrupt()

    def _run(self) -> None:
        try:
            self._work()
        except BaseException as error:  # SystemExit ends a thread without a word
            self.failure = f"the inference thread ended: {type(error).__name__}: {error}; deactivate and activate"
            self.failures = MAX_FAILURES
            self._chunks.flush()

    def _work(self) -> None:
        while not self._stop.is_set():
            settings = self._settings()
            if self._reset_wanted.is_set():
                self._reset_wanted.clear()
                self._forget()
                self.failures = 0
            if self._applied is not None and self._applied["instruction"] != settings["instruction"]:
                self.failures = 0  # another instruction deserves another try
            if not settings["instruction"] or self.failures >= MAX_FAILURES:
                self._reset_wanted.wait(IDLE_S)
                continue
            self._free_at, self._generation = time.monotonic(), self._chunks.generation
            matched = self._store.wait(round(settings["sync_tolerance_ms"] * 1e6), IDLE_S)
            if matched is not None:
                self._busy, self._changed_at = True, time.monotonic()
                self._infer(matched, self._settings())
                self._busy, self._changed_at = False, time.monotonic()

    def _forget(self) -> None:
        self._runtime.reset()
        self._generation = self._chunks.flush(self._generation)

    def _infer(self, matched: MatchedMessages, settings: Settings) -> None:
        try:
            self._apply(settings)
            observation = self._observe(matched, settings)
            shapes: list[tuple[float, ...]]
            shapes = [(c.width, c.height, c.fx, c.fy, c.cx, c.cy) for c in (view.camera for view in observation.views)]
            if shapes != self._camera_shapes:  # another resolution or calibration: what was learned is of another grid
                if self._camera_shapes is not None:
                    self._forget()
                self._camera_shapes = shapes
            inference = self._call(observation, settings)
        except ConversionError as error:
            late = isinstance(error, TransformError)
            self._store.count_drop("no transform" if late else "malformed")
            self.refusal = f"{'no transform' if late else 'message refused'}: {error}"
            self.refused_at = time.monotonic()
            return
        except NotReadyError as error:
            self._store.count_drop("not ready")
            self.failure = f"not ready: {error}"
            return
        except Exception as error:  # the node must live; the watchdog stops the arm meanwhile
            self.failures += 1
            self.failure = f"policy call failed ({self.failures} in a row): {type(error).__name__}: {error}"
            self._forget()
            return
        if self._stop.is_set() or self._reset_wanted.is_set():
            return  # the episode this was meant for is over
        self.failure, self.failures = None, 0
        self.used_at, self.seen_ns = matched.received_at, matched.oldest_ns
        self._chunks.put(inference.chunk, self._generation)
        now = time.monotonic()
        self.calls.append(now)
        self.policy_ms.append(inference.policy_ms)
        waited_ms = max(0.0, self._free_at - matched.received_at) * 1e3
        self.last = Result(
            observation, inference, (now - matched.received_at) * 1e3, waited_ms,
            {name: stamp_ns(message.header) for name, message in matched.messages.items()},
            self._runtime.calls - 1, self._runtime.pruner, self._runtime.prune,
        )  # fmt: skip
        try:
            self._on_result(self.last)
        except Exception as error:  # nothing that is said of a call may end the calls
            self.report_failure, self.report_failed_at = f"{type(error).__name__}: {error}", time.monotonic()

    def _call(self, observation: Observation, settings: Settings) -> Inference:
        """The policy; when the device runs out of memory once more with half of the tokens.

        The pruner keeps its memory for that: after a reset the call would be a full one.
        """
        try:
            return self._runtime.infer(observation)
        except torch.cuda.OutOfMemoryError:
            self._store.count_drop("out of device memory, tried with fewer tokens")
            torch.cuda.empty_cache()
            pruner, self._halved = self._runtime.pruner, True
            self._runtime.prune = True
            pruner.keep_ratio = settings["keep_ratio"] / 2
            return self._runtime.infer(observation)

    def _apply(self, settings: Settings) -> None:
        """Bring changed parameters into force, between two calls."""
        old = self._applied
        if old is settings and not self._halved:
            return
        self._halved = False
        if old is not None and old["instruction"] != settings["instruction"]:
            self._forget()  # a chunk of the old instruction must not be finished
        pruner = self._runtime.pruner
        if old is not None and any(old[name] != settings[name] for name in ("method", "keep_ratio")):
            self._runtime.prune = True  # what was measured at start was another way of pruning
        if old is None or old["method"] != settings["method"]:
            self._runtime.pruner = make_pruner(
                settings["method"], settings["keep_ratio"], settings.pruning, settings["seed"]
            )
            self._runtime.reset()  # the new one has seen nothing
        elif settings["method"] != "none":
            pruner.keep_ratio = settings["keep_ratio"]
            if isinstance(pruner, TriStagePruner):
                pruner.config = settings.pruning
        self._applied = settings

    def busy_s(self) -> float:
        """For how long the call under way has been; 0 when there is none."""
        return time.monotonic() - self._changed_at if self._busy else 0.0

    def idle_s(self) -> float:
        """For how long there has been nothing to call the policy with; 0 while a call is under way."""
        return 0.0 if self._busy else time.monotonic() - self._changed_at

    def rate_hz(self) -> float:
        """Policy calls per second over the last two seconds."""
        now = time.monotonic()
        return sum(now - t < 2.0 for t in list(self.calls)) / 2.0

    def slow_in_a_row(self, limit_ms: float) -> int:
        """How many of the newest calls in a row took longer than ``limit_ms``."""
        slow = [ms > limit_ms for ms in list(self.policy_ms)]  # a copy: the worker appends meanwhile
        return int(np.argmin(slow[::-1])) if slow and not all(slow) else len(slow)
