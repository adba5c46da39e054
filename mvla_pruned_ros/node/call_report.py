"""``~/call``: what each policy call was given and what it answered, for ``mvla replay --follow``."""

from __future__ import annotations

import dataclasses
from typing import Any

from rclpy.node import Node
from rclpy.qos import QoSProfile
from std_msgs.msg import String

from ..observation.frames import sensor_poses
from ..policy.call_record import CallRecord
from ..policy.engine.machine import machine
from ..policy.fingerprint import policy_fingerprint
from ..policy.source import PolicySource
from ..pruning.base import Pruner
from ..pruning.tri_stage.pruner import TriStagePruner
from .parameters import Settings
from .worker import Result


class CallReport:
    """Publishes a ``CallRecord`` per call, when somebody listens."""

    def __init__(self, node: Node, qos: QoSProfile) -> None:
        self._publisher = node.create_publisher(String, "~/call", qos)
        self._about: dict[str, Any] = {}

    def configured(self, settings: Settings, source: PolicySource, device_name: str) -> None:
        """A policy was loaded. Of code there is no fingerprint."""
        import torch

        folder = source.folder
        self._about = {
            "policy": source.name if folder is None or source.name == folder.name else str(folder.resolve()),
            "fingerprint": policy_fingerprint(folder) if folder is not None else None,
            "device": settings["device"],
            "device_name": device_name,
            "precision": settings["precision"],
            "torch_threads": torch.get_num_threads(),
            **machine(),
        }

    def publish(self, result: Result, settings: Settings, topics: dict[str, str]) -> None:
        """One call. topics: stream -> resolved name."""
        if self._publisher.get_subscription_count():
            self._publisher.publish(String(data=record_of(result, settings, topics, self._about).to_json()))


def record_of(result: Result, settings: Settings, topics: dict[str, str], about: dict[str, Any]) -> CallRecord:
    """A call as it is written down. The pruner's settings are those in force, which may not be those asked for last."""
    observation, inference, pruner = result.observation, result.inference, result.pruner
    return CallRecord(
        stamp_ns=observation.stamp_ns,
        since_reset=result.since_reset,
        instruction=observation.instruction,
        inputs={stream: (topics[stream], stamp) for stream, stamp in result.stamps.items()},
        base_frame=settings["base_frame"],
        camera_frame=settings["camera_frame"],
        base_from_camera=observation.camera.base_from_camera,
        sensor_poses=sensor_poses(settings["sensor_frames"], settings["sensor_extrinsics"]),
        method=pruner.name,
        keep_ratio=pruner.keep_ratio,
        seed=settings["seed"],
        tri_stage=_tri_stage(pruner),
        prune=result.prune,
        kept=inference.selection.kept,
        actions=inference.chunk.actions,
        node=about,
    )


def _tri_stage(pruner: Pruner) -> dict[str, Any] | None:
    return dataclasses.asdict(pruner.config) if isinstance(pruner, TriStagePruner) else None
