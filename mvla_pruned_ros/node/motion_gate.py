"""Whether somebody lets the arm move: the service ``~/enable``, and a proof of life on ``~/heartbeat``."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from rclpy.node import Node
from rclpy.qos import QoSProfile, ReliabilityPolicy
from std_msgs.msg import Empty
from std_srvs.srv import SetBool

from .parameters import Settings

HEARTBEAT_QOS = QoSProfile(depth=1, reliability=ReliabilityPolicy.BEST_EFFORT)  # matches reliable publishers as well


class MotionGate:
    """Motion is allowed while it is enabled and, where a heartbeat is asked for, that is heard.

    A heartbeat that was heard and falls silent disables: an arm that stopped because nobody was there must not start by
    itself when somebody comes back. ``~/enable`` starts it again. All of it is on the steady clock.

    A refusal that was acknowledged holds until it is taken back, activation in between or not. It is taken back while
    the node is active only: nothing that was said before may make the arm move at the moment of activation.

    Attributes:
        heartbeat_lost: what disabled it was a heartbeat that fell silent.
    """

    def __init__(
        self, node: Node, settings: Callable[[], Settings], active: Callable[[], bool], on_change: Callable[[], None]
    ) -> None:
        """
        Args:
            settings: newest snapshot. active: whether the node is. on_change: called when ``~/enable`` has changed
                something.
        """
        self._settings, self._active, self._on_change = settings, active, on_change
        self._lock = threading.Lock()
        self._beat_at: float | None = None
        self._refused = False  # ~/enable said false last
        self._enabled = not settings()["require_enable"]
        self.heartbeat_lost = False
        subscription = node.create_subscription(Empty, "~/heartbeat", self._beat, HEARTBEAT_QOS)
        self._topic = subscription.topic_name
        node.create_service(SetBool, "~/enable", self._serve)
        self._service = node.resolve_service_name("~/enable")

    def restart(self) -> None:
        """The node was activated: as at start, unless motion was refused before."""
        with self._lock:
            self._enabled = not self._settings()["require_enable"] and not self._refused
            self._beat_at, self.heartbeat_lost = None, False

    def objection(self) -> str | None:
        """Why no motion is allowed now; None when it is."""
        with self._lock:
            silent = self._silent()
            if silent and self._beat_at is not None and self._enabled:
                self._enabled, self.heartbeat_lost = False, True
            if self._enabled:
                return silent
            if self.heartbeat_lost:
                return (
                    f"{silent}: call {self._service} when it is back"
                    if silent
                    else f"{self._topic} is back after it was silent: call {self._service} to go on"
                )
            return f"not enabled: call {self._service}"

    def _silent(self) -> str | None:
        limit_ms = self._settings()["heartbeat_timeout_ms"]
        if limit_ms == 0:
            return None
        if self._beat_at is None:
            return f"no heartbeat on {self._topic} yet"
        silent = (time.monotonic() - self._beat_at) * 1e3 > limit_ms
        return f"no heartbeat on {self._topic} for more than {limit_ms:g} ms" if silent else None

    def _beat(self, message: Empty) -> None:
        with self._lock:
            # Looked at here too: a gap between two beats is a gap, whether or not somebody looked meanwhile.
            if self._silent() and self._beat_at is not None and self._enabled:
                self._enabled, self.heartbeat_lost = False, True
            self._beat_at = time.monotonic()

    def _serve(self, request: SetBool.Request, response: SetBool.Response) -> SetBool.Response:
        with self._lock:
            objection = self._silent() if self._active() else "the node is not active; activate it first"
            if request.data and objection:
                response.success, response.message = False, f"not enabled: {objection}"
                return response
            self._enabled, self._refused, self.heartbeat_lost = request.data, not request.data, False
        self._on_change()
        response.success, response.message = True, "enabled" if request.data else "disabled"
        return response
