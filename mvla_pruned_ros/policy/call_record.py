"""What one policy call was given and what it answered, as the policy node says it, so that a bag can be followed."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ..messages.gripper import GripperJoint

VERSION = 2


@dataclass(frozen=True)
class CallRecord:
    """One call, in the order in which the node made them.

    Attributes:
        stamp_ns: of the observation, header time of the image.
        since_reset: calls before this one that its pruner and policy had seen since they last forgot everything. 0: the
            call came after a reset.
        instruction: the words in force.
        inputs: stream -> topic and header stamp, nanoseconds, of the message that was used.
        base_frame, camera_frame: frames of the node. poses: frame -> (4, 4) float64 pose in the base frame of cameras
            that stand still, and in the frame of the end effector of those in hand_frames. transforms: what tf
            answered: frame, stamp in nanoseconds, (4, 4) float64.
        last_command: (7,) pose that was last commanded, None where none was; see ``ArmState``.
        method, keep_ratio, seed: of the pruner in force. tri_stage: its parameters, None for other methods.
        prune: False where the node left all tokens in because pruning did not pay (parameter ``prune``).
        kept: (N2 + N3,) bool, which visual tokens stayed. actions: (K, A) float32, before limits of commands.
        reading: what the numbers of messages mean, where it is not the default: gripper_joint, gripper_closed,
            gripper_open, depth_unit_m, ee_frame, joint_names, hand_frames.
        node: what the node runs on: policy, fingerprint, device, precision, torch_threads, versions, CPU.
    """

    stamp_ns: int
    since_reset: int
    instruction: str
    inputs: Mapping[str, tuple[str, int]]
    base_frame: str
    camera_frame: str
    poses: Mapping[str, np.ndarray]
    transforms: Sequence[tuple[str, int, np.ndarray]]
    last_command: np.ndarray | None
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
            "poses": {name: _numbers(pose) for name, pose in self.poses.items()},
            "transforms": [[frame, stamp, _numbers(pose)] for frame, stamp, pose in self.transforms],
            "last_command": None if self.last_command is None else _numbers(self.last_command),
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
            values["poses"] = {name: _pose(pose) for name, pose in values["poses"].items()}
            values["transforms"] = [(frame, int(stamp), _pose(pose)) for frame, stamp, pose in values["transforms"]]
            command = values["last_command"]
            values["last_command"] = None if command is None else np.array(command, np.float64).reshape(7)
            values["actions"] = np.array(values["actions"], np.float32)
            return cls(**values)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"not a record of a policy call: {error}") from error


def _numbers(array: np.ndarray) -> list[Any]:
    return np.asarray(array, np.float64).tolist()


def _pose(values: Any) -> np.ndarray:
    return np.array(values, np.float64).reshape(4, 4)
