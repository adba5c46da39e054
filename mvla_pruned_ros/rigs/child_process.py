"""A node in a process of its own, which never outlives its parent's ``with`` block."""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

PR_SET_PDEATHSIG = 1  # of Linux's prctl


class ChildFailedError(RuntimeError):
    """A node ended by itself or did not do what was awaited; the message holds the end of what it printed."""


def parameter_arguments(parameters: Mapping[str, Any]) -> list[str]:
    """``-p name:=value`` for each parameter, in JSON, which is YAML, so that types survive."""
    texts = {name: json.dumps(value, ensure_ascii=False) for name, value in parameters.items()}
    return [word for name, text in texts.items() for word in ("-p", f"{name}:={text}")]


class ChildNode:
    """``python -m module --ros-args ...`` with its output in a log file.

    It is told to end (SIGTERM) when its parent is gone, however that ended: where nobody is left to stop a node, it
    would go on moving a robot.
    """

    def __init__(
        self,
        name: str,
        module: str,
        log: Path,
        parameters: Mapping[str, Any],
        remaps: Mapping[str, str],
        environment: Mapping[str, str],
        parameter_files: Sequence[Path] = (),
    ) -> None:
        """Args: name: for messages. module: what to run. log: file for stdout and stderr.

        Raises:
            RuntimeError: not called by the main thread: the child would end with the thread that started it.
        """
        if threading.current_thread() is not threading.main_thread():
            raise RuntimeError("nodes are started by the main thread: they end when the thread that started them does")
        self.name, self._log = name, log
        command = [sys.executable, "-m", module, "--ros-args", *parameter_arguments(parameters)]
        for source, target in remaps.items():
            command += ["-r", f"{source}:={target}"]
        for file in parameter_files:
            command += ["--params-file", str(file)]
        with log.open("wb") as output:
            # A session of its own: Ctrl-C reaches the parent alone, which then ends its children in order.
            self.process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=dict(environment),
                start_new_session=True,
                preexec_fn=_end_with(os.getpid()),
            )

    def check(self) -> None:
        """Raise ChildFailedError if the node has ended."""
        code = self.process.poll()
        if code is not None:
            raise ChildFailedError(f"{self.name} ended with exit code {code}; the end of {self._log}:\n{self.tail()}")

    def tail(self, lines: int = 20) -> str:
        """The last lines it printed."""
        return "\n".join(self._log.read_text(errors="replace").splitlines()[-lines:])

    def interrupt(self) -> None:
        """Ask it to end (SIGINT)."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)

    def end(self, patience_s: float = 5.0) -> None:
        """SIGINT, and SIGKILL to its whole session when it has not ended after ``patience_s``."""
        self.interrupt()
        try:
            self.process.wait(patience_s)
        except subprocess.TimeoutExpired:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()


def _end_with(parent: int) -> Callable[[], None]:
    """For the child to run before it becomes the node: the kernel sends it SIGTERM when the parent's thread ends."""
    prctl = getattr(ctypes.CDLL(None), "prctl", None)

    def ask() -> None:
        if prctl is not None:
            prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
        if os.getppid() != parent:  # it ended before it could be asked for
            os.kill(os.getpid(), signal.SIGTERM)

    return ask


def end_all(children: Sequence[ChildNode], patience_s: float = 5.0) -> None:
    """End several at once: all are asked first, so that they take the patience together."""
    for child in children:
        child.interrupt()
    until = time.monotonic() + patience_s
    for child in children:
        child.end(max(0.1, until - time.monotonic()))
