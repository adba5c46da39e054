"""What one policy call was given and what it answered, as the policy node says it, so that a bag can be followed."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ..messages.gripper import GripperJoint

VERSION = 1


@dataclass(frozen=True)
class CallRecord:
    """One call, in the order in which the node made them.

    Attributes:
        stamp_ns: of the observation, header time of the image.
        since_reset: calls before this one that its pruner and policy had seen since they last forgot everything. 0: the
            call came after a reset.
        instruction: the words in force.
        inputs: stream -> topic and header stamp, nanoseconds, of the message that was used.
        base_frame, camera_frame: frames of the node. base_from_camera: (4, 4) float64 pose of the camera that was used.
        sensor_poses: frame -> the same of further sensors that stand still; those of tf are not among them.
        method, keep_ratio, seed: of the pruner in force. tri_stage: its parameters, None for other methods.
        prune: False where the node left all tokens in because pruning did not pay (parameter ``prune``).
        kept: (N2 + N3,) bool, which visual tokens stayed. actions: (K, A) float32, before limits of commands.
        reading: what the numbers of messages mean, where it is not the default: gripper_joint, gripper_closed,
            gripper_open, depth_unit_m; and ee_frame, whose pose of this call is then among ``sensor_poses``.
        node: what the node runs on: policy, fingerprint, device, precision, torch_threads, versions, CPU.
    """

    stamp_ns: int
    since_reset: int
    instruction: str
    inputs: Mapping[str, tuple[str, int]]
    base_frame: str
    camera_frame: str
    base_from_camera: np.ndarray
    sensor_poses: Mapping[str, np.ndarray]
    method: str
    keep_ratio: float
    seed: int
    tri_stage: Mapping[str, Any] | None
    prune: bool
    kept: np.ndarray
    actions: np.ndarray
    node: Mapping[str, Any] = field(default_factory=dict)
    reading: Mapping[str, Any] = field(default_factory=dict)

    @property
    def gripper(self) -> GripperJoint:
        """Where the opening of the gripper was read."""
        names = {"gripper_joint": "name", "gripper_closed": "closed", "gripper_open": "open"}
        return GripperJoint(**{names[key]: value for key, value in self.reading.items() if key in names})

    def to_json(self) -> str:
        """One line. Nothing is lost: float32 needs nine digits."""
        return json.dumps({
            **self.__dict__,
            "version": VERSION,
            "inputs": {stream: {"topic": topic, "stamp_ns": stamp} for stream, (topic, stamp) in self.inputs.items()},
            "base_from_camera": np.asarray(self.base_from_camera, np.float64).tolist(),
            "sensor_poses": {name: np.asarray(pose, np.float64).tolist() for name, pose in self.sensor_poses.items()},
            "kept": {"tokens": len(self.kept), "bits": np.packbits(self.kept).tobytes().hex()},
            "actions": [[float(f"{x:.9g}") for x in action] for action in self.actions.tolist()],
        })  # fmt: skip

    @classmethod
    def from_json(cls, text: str) -> CallRecord:
        """What ``to_json`` wrote.

        Raises:
            ValueError: it did not, or another version of this package did.
        """
        try:
            values = json.loads(text)
            version = values.pop("version")
            if version != VERSION:
                raise ValueError(f"version {version}, this package reads {VERSION}")
            bits = np.frombuffer(bytes.fromhex(values["kept"]["bits"]), np.uint8)
            values["kept"] = np.unpackbits(bits, count=values["kept"]["tokens"]).astype(bool)
            values["inputs"] = {
                stream: (one["topic"], int(one["stamp_ns"])) for stream, one in values["inputs"].items()
            }
            values["base_from_camera"] = np.array(values["base_from_camera"], np.float64).reshape(4, 4)
            values["sensor_poses"] = {
                name: np.array(pose, np.float64).reshape(4, 4) for name, pose in values["sensor_poses"].items()
            }
            values["actions"] = np.array(values["actions"], np.float32)
            return cls(**values)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"not a record of a policy call: {error}") from error
