"""Configure and activate a lifecycle node at start, on a thread of its own: signals are served meanwhile."""

from __future__ import annotations

import threading

from rclpy.lifecycle import LifecycleNode, TransitionCallbackReturn


class Autostart:
    """Runs the two transitions unless told to stop. Attributes: failed: one of them did."""

    def __init__(self, node: LifecycleNode, stopping: threading.Event) -> None:
        """Starts at once. Args: stopping: when set, no further transition is begun; set here when one has failed."""
        self.failed = False
        self._node, self._stopping = node, stopping
        threading.Thread(target=self._run, name="autostart", daemon=True).start()

    def _run(self) -> None:
        for transition in (self._node.trigger_configure, self._node.trigger_activate):
            if self._stopping.is_set():
                return
            if transition() != TransitionCallbackReturn.SUCCESS:
                self.failed = not self._stopping.is_set()
                self._stopping.set()
                return
