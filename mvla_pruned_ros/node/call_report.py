"""What the node says of each policy call, for those who listen: figures, a record to follow, pictures, kept points.

And what it shows of it, where a view was asked for.
"""

from __future__ import annotations

import dataclasses
import json
import math
from typing import Any

from rclpy.node import Node
from rclpy.qos import QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import Image, PointCloud2
from std_msgs.msg import String

from ..observation.builder import FramesOfCall
from ..observation.streams import source_of
from ..observation.synchronizer import Synchronizer
from ..policy.call_record import CallRecord
from ..policy.engine.device import thread_count
from ..policy.engine.machine import machine
from ..policy.fingerprint import policy_fingerprint
from ..policy.mvla.preprocess import view_squares
from ..pruning.base import Pruner
from ..pruning.tri_stage.pruner import TriStagePruner
from ..reports.overlay import KEPT_FIELDS, draw_overlay, kept_points
from ..viewer.calls import Call, Status
from ..viewer.live import LiveView
from .command_publisher import REPORT_QOS
from .diagnostics import call_values
from .loading import Loaded
from .parameters import SPECS, Settings
from .ros_messages import ENCODER
from .worker import Result

PICTURE_QOS = QoSProfile(depth=1, reliability=ReliabilityPolicy.BEST_EFFORT)
READING = ("gripper_joint", "gripper_closed", "gripper_open", "depth_unit_m", "ee_frame", "joint_names",
           "hand_frames")  # fmt: skip
OVERLAY_PX = 192  # about so large is the square that is drawn on, before it is enlarged


class CallReport:
    """Publishes ``~/pruning``, ``~/call``, ``~/overlay`` and ``~/kept_points``.

    Attributes:
        view: of what the node sees and decides; None where none was asked for.
    """

    def __init__(self, node: Node) -> None:
        self._node = node
        self._figures = node.create_publisher(String, "~/pruning", REPORT_QOS)
        self._record = node.create_publisher(String, "~/call", REPORT_QOS)
        self._overlay = node.create_publisher(Image, "~/overlay", PICTURE_QOS)
        self._kept_points = node.create_publisher(PointCloud2, "~/kept_points", PICTURE_QOS)
        self._about: dict[str, Any] = {}
        self.view: LiveView | None = None

    def configured(self, settings: Settings, loaded: Loaded) -> None:
        """A policy was loaded. Of code there is no fingerprint."""
        source, folder = loaded.source, loaded.source.folder
        self._frames = loaded.builder.frames
        self._about = {
            "policy": source.name if folder is None or source.name == folder.name else str(folder.resolve()),
            "fingerprint": policy_fingerprint(folder) if folder is not None else None,
            "device": settings["device"],
            "device_name": loaded.policy.device_name,
            "precision": settings["precision"],
            "torch_threads": thread_count(),
            **machine(),
        }
        self.view = LiveView(settings["view"], loaded.form.actions) if settings["view"] else None

    def tell(self, status: Status) -> None:
        """Show what the node says of itself."""
        if self.view is not None:
            self.view.put(status)

    def close(self) -> None:
        """End the view."""
        if self.view is not None:
            self.view.close()
            self.view = None

    def publish(self, result: Result, settings: Settings, store: Synchronizer) -> None:
        """One call, on the worker's thread. store: where its messages come from."""
        observation, stamp_ns = result.observation, result.observation.stamp_ns
        if (view := self.view) is not None:  # the executor's thread may close it meanwhile
            view.put(Call(observation, result.inference, result.latency_ms))
        if self._record.get_subscription_count():
            record = record_of(result, settings, store.topics, self._frames, self._about)
            self._record.publish(ENCODER.text(record.to_json()))
        if self._figures.get_subscription_count():
            age_ms = (self._node.get_clock().now().nanoseconds - stamp_ns) / 1e6
            self._figures.publish(ENCODER.text(call_json(result, age_ms, store.frames_received)))
        selection, layout = result.inference.selection, result.inference.layout
        if self._overlay.get_subscription_count():
            squares = view_squares(observation.chosen_views(layout.views), layout.grids, OVERLAY_PX)
            picture = draw_overlay(squares, selection, layout)
            self._overlay.publish(ENCODER.image(picture, "rgb8", stamp_ns, settings["camera_frame"]))
        if self._kept_points.get_subscription_count():
            points = kept_points(selection, layout)
            self._kept_points.publish(ENCODER.cloud(KEPT_FIELDS, points, stamp_ns, settings["base_frame"]))


def record_of(
    result: Result, settings: Settings, topics: dict[str, str], frames: FramesOfCall, about: dict[str, Any]
) -> CallRecord:
    """A call as it is written down. The pruner's settings are those in force, which may not be those asked for last."""
    observation, inference, pruner = result.observation, result.inference, result.pruner
    return CallRecord(
        stamp_ns=observation.stamp_ns,
        since_reset=result.since_reset,
        instruction=observation.instruction,
        inputs={stream: (topics[source_of(stream)], stamp) for stream, stamp in result.stamps.items()},
        base_frame=settings["base_frame"],
        camera_frame=settings["camera_frame"],
        poses=frames.poses,
        transforms=list(frames.answers),
        last_command=observation.state.last_command,
        method=pruner.name,
        keep_ratio=pruner.keep_ratio,
        seed=settings["seed"],
        tri_stage=_tri_stage(pruner),
        prune=result.prune,
        kept=inference.selection.kept,
        actions=inference.chunk.actions,
        node=about,
        reading={name: settings[name] for name in READING if settings[name] != SPECS[name].default},
    )


def _tri_stage(pruner: Pruner) -> dict[str, Any] | None:
    return dataclasses.asdict(pruner.config) if isinstance(pruner, TriStagePruner) else None


def call_json(result: Result, age_ms: float, frames_received: int) -> str:
    """One line of ``~/pruning``. age_ms: node-clock age of the observation when its chunk was in place."""
    values = {
        "stamp_ns": result.inference.chunk.stamp_ns,
        "age_ms": age_ms,
        "frames_received": frames_received,
        **call_values(result),
    }
    return json.dumps({k: None if isinstance(v, float) and math.isnan(v) else v for k, v in values.items()})
