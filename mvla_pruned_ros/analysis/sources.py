"""Where recorded calls come from: a simulated episode that the policy drives, or a bag it is shown."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from ..bag_reader import Bag
from ..geometry import depth_to_points
from ..policy.inputs import NotReadyError
from ..policy.interface import Policy
from ..types import CameraModel, Observation
from .recording import Call, RecordingRuntime

INSTRUCTION = "/policy/instruction"
SENSORS = {f"/simulator/{name}": name for name in ("image", "depth", "camera_info", "ee_pose", "gripper")}
PIXELS: dict[str, tuple[str, int]] = {"rgb8": ("u1", 3), "32FC1": ("f4", 1)}  # what `mvla record` writes


def simulated_calls(robot: Any, policy: Policy, seed: int) -> Iterator[Call]:
    """One episode of the simulated robot, driven by the unpruned policy as ``mvla evaluate`` does.

    Args:
        robot: a ``SimulatedRobot``, reset here. seed: of the scene.
    """
    from ..evaluation.rollout import DelayedControl  # needs the simulator, which a bag does not

    runtime = RecordingRuntime(policy)
    robot.reset(seed)
    control = DelayedControl(runtime)
    while robot.steps < robot.task.max_steps and not robot.success:
        control.step(robot)
        yield from runtime.take()


def bag_calls(bag: Bag, policy: Policy, base_from_camera: np.ndarray) -> Iterator[Call]:
    """What the unpruned policy answers to the frames of a bag of ``mvla record``; nothing moves.

    Frames that cannot be acted on (too few points) are left out.

    Args:
        base_from_camera: (4, 4) pose of the camera's optical frame; bags do not tell it.

    Raises:
        ValueError: a topic is missing or a message is not as ``mvla record`` writes it; or the policy does not know
            the instruction.
    """
    runtime = RecordingRuntime(policy)
    for begins, observation in bag_observations(bag, base_from_camera):
        if begins:
            runtime.reset()
        try:
            runtime.infer(observation)
        except NotReadyError:
            continue
        yield from runtime.take()


def bag_observations(bag: Bag, base_from_camera: np.ndarray) -> Iterator[tuple[bool, Observation]]:
    """Whether an episode begins here, and what the sensors saw; see ``bag_calls``.

    The messages of one instant carry the same stamp; an instant of which one was lost is left out. Each instruction
    begins an episode: that is how ``mvla record`` starts them.
    """
    missing = sorted({INSTRUCTION, *SENSORS} - set(bag.types))
    if missing:
        raise ValueError(
            f"{bag.folder} has no {', '.join(missing)}: give a bag of `mvla record`; "
            f"this one has {', '.join(sorted(bag.types))}"
        )
    instruction, begins = "", False
    partial: dict[int, dict[str, Any]] = {}
    for raw in bag.messages({INSTRUCTION, *SENSORS}):
        message = bag.decode(raw)
        if raw.topic == INSTRUCTION:
            instruction, begins = message.data, True
            continue
        stamp_ns = message.header.stamp.sec * 1_000_000_000 + message.header.stamp.nanosec
        parts = partial.setdefault(stamp_ns, {})
        parts[SENSORS[raw.topic]] = message
        if instruction and len(parts) == len(SENSORS):
            yield begins, _observation(stamp_ns, parts, instruction, base_from_camera)
            begins = False
            # What is older and still has gaps will not be filled any more.
            partial = {stamp: rest for stamp, rest in partial.items() if stamp > stamp_ns}


def _observation(stamp_ns: int, parts: dict[str, Any], instruction: str, pose: np.ndarray) -> Observation:
    info, position = parts["camera_info"], parts["ee_pose"].pose.position
    # CameraInfo puts the centre of a pixel at whole numbers, CameraModel at + 0.5.
    fx, fy, cx, cy = info.k[0], info.k[4], info.k[2] + 0.5, info.k[5] + 0.5
    camera = CameraModel(info.width, info.height, fx, fy, cx, cy, pose)
    opening = parts["gripper"].position[0]
    return Observation(
        stamp_ns=stamp_ns,
        image=_pixels(parts["image"], "rgb8"),
        points=depth_to_points(_pixels(parts["depth"], "32FC1"), camera),
        camera=camera,
        proprio=np.array([position.x, position.y, position.z, opening], np.float32),
        instruction=instruction,
    )


def _pixels(message: Any, encoding: str) -> np.ndarray:
    """(H, W, 3) uint8 or (H, W) float32 of an image message without padding."""
    kind, channels = PIXELS[encoding]
    shape = (message.height, message.width, channels)
    size = int(np.prod(shape)) * np.dtype(kind).itemsize
    if message.encoding != encoding or message.is_bigendian or len(message.data) != size:
        raise ValueError(
            f"an image of {message.width} x {message.height} has encoding {message.encoding!r} and "
            f"{len(message.data)} bytes, but `mvla record` writes {encoding}, little endian, {size} bytes"
        )
    pixels = np.frombuffer(message.data, kind).reshape(shape).copy()  # the bag's bytes are read-only, torch warns
    return pixels if channels > 1 else pixels[..., 0]
