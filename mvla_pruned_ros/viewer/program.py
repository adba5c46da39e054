"""Rerun's viewer, a program of its own, kept from talking to anyone but this computer.

Started by Rerun's own ``spawn`` it listens on all interfaces, asks GitHub for a newer version, and sends statistics of
its use, for which it writes into HOME. So it is started here, with the address, the settings and the proxy below.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

HOST, PORT = "127.0.0.1", 9876  # Rerun's own port: a viewer that is open already is used
URL = f"rerun+http://{HOST}:{PORT}/proxy"
START_S = 20.0
NO_ANALYTICS = Path(__file__).parent / "no_analytics"  # a folder of settings, of which the viewer has no other place
NOWHERE = f"http://{HOST}:9"  # nothing listens on the port of the discard service


class ViewerError(RuntimeError):
    """There is no viewer to show anything."""


def environment() -> dict[str, str]:
    """Of the viewer: no analytics, and no way out for what it asks of the internet."""
    ours = {"XDG_CONFIG_HOME": str(NO_ANALYTICS)}
    for name in ("http_proxy", "https_proxy", "all_proxy"):
        ours |= {name: NOWHERE, name.upper(): NOWHERE}
    return {**os.environ, **ours, "no_proxy": "", "NO_PROXY": ""}


def command(*options: str) -> list[str]:
    """How the viewer is started, to listen on this computer alone."""
    return [sys.executable, "-m", "rerun_cli", "--bind", HOST, "--port", str(PORT), *options]


def reachable(timeout_s: float = 0.5) -> bool:
    """Whether a viewer listens."""
    with contextlib.suppress(OSError), socket.create_connection((HOST, PORT), timeout_s):
        return True
    return False


def start_viewer(*options: str) -> subprocess.Popen[bytes] | None:
    """Start the viewer and wait until it listens; None when one was open already.

    It stays open when this program ends, so that what it shows can be looked at, and is closed by its user.

    Args:
        options: of ``rerun``, instead of those of a window.

    Raises:
        ViewerError: it ended, or did not listen within ``START_S``; with the last line of what it said.
    """
    if reachable():
        return None
    with tempfile.TemporaryFile() as output:
        process = subprocess.Popen(
            command(*(options or ("--expect-data-soon", "--hide-welcome-screen"))),
            stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT, env=environment(),
            start_new_session=True,
        )  # fmt: skip
        until = time.monotonic() + START_S
        while process.poll() is None and time.monotonic() < until:
            if reachable():
                return process
            time.sleep(0.1)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGTERM)
        output.seek(0)
        said = output.read().decode(errors="replace").strip().splitlines() or ["nothing"]
        raise ViewerError(f"Rerun's viewer did not start; it said last: {said[-1]}; without a display, give a file")
