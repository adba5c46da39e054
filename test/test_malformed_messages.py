"""Whatever a message holds, it becomes an observation that makes sense or is refused with a reason: nothing else."""

from __future__ import annotations

from pathlib import Path
from random import Random

import numpy as np
import pytest

pytest.importorskip("rclpy", reason="ROS is neither sourced nor installed as wheels")
pytest.importorskip("hypothesis", reason="hypothesis is not installed: pip install .[test]")

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mvla_pruned_ros.messages.decode import ConversionError, stamp_ns
from mvla_pruned_ros.observation.builder import observation_of
from mvla_pruned_ros.observation.frames import Frames, pose_of
from mvla_pruned_ros.policy.base import Policy
from mvla_pruned_ros.policy.mvla.preprocess import NotReadyError
from mvla_pruned_ros.policy.source import load_policy
from mvla_pruned_ros.rigs.faults.malformed import STREAMS, malformed
from mvla_pruned_ros.rigs.faults.peer import HEIGHT, TOPICS, WIDTH
from mvla_pruned_ros.rigs.synthetic_robot import BASE, EXTRINSICS, FRAME, synthetic_messages

CAMERA_POSE = pose_of(EXTRINSICS["extrinsics.translation"], EXTRINSICS["extrinsics.rotation_xyzw"])
FRAMES = Frames(BASE, FRAME, {BASE: np.eye(4), FRAME: CAMERA_POSE})
GOOD = synthetic_messages(TOPICS, WIDTH, HEIGHT)
EXAMPLES = 250


@pytest.fixture(scope="module")
def policy(tiny_policy_folder: Path) -> Policy:
    return load_policy(tiny_policy_folder)


def messages_of(stream: str) -> dict[str, object]:
    """Good ones of the streams that a node with this input takes."""
    image = "image/compressed" if stream == "image/compressed" else "image"
    cloud = "points" if stream == "points" else "depth"
    return {"image": GOOD[image], cloud: GOOD[cloud]} | {n: GOOD[n] for n in ("camera_info", "ee_pose", "gripper")}


@pytest.mark.parametrize("stream", [name for name in STREAMS if name != "instruction"])
def test_malformed_message_is_refused_or_makes_a_finite_observation(stream: str, policy: Policy) -> None:
    seen = {"refused": 0, "not ready": 0, "used": 0}

    @settings(max_examples=EXAMPLES, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
    @given(random=st.randoms(use_true_random=False))
    def one(random: Random) -> None:
        bad = malformed(random, stream, GOOD[stream])
        messages = messages_of(stream) | {stream.split("/")[0]: bad}
        try:
            observation = observation_of(stamp_ns(bad.header), messages, "push the puck", FRAMES)
        except ConversionError as error:
            assert str(error)
            seen["refused"] += 1
            return
        assert np.isfinite(observation.points).all() and np.isfinite(observation.state.position).all()
        try:
            prepared = policy.prepare(observation)
        except NotReadyError:
            seen["not ready"] += 1
            return
        assert np.isfinite(prepared.layout.point_positions).all()
        seen["used"] += 1

    one()
    assert seen["refused"] > 0 and seen["used"] > 0, seen  # else nothing is tested


def test_what_is_spoilt_includes_what_drivers_send() -> None:
    """Joint names and cloud fields that do not hold together, lenses, binning, clocks that are not in step."""
    random = Random(1)
    joints = [malformed(random, "gripper", GOOD["gripper"]) for _ in range(200)]
    assert any(not j.name for j in joints) and any(len(set(j.name)) < len(j.name) for j in joints)
    assert any(len(j.name) != len(j.position) for j in joints)
    assert any(len(name) > 1000 for j in joints for name in j.name)
    assert not all(name.isascii() for j in joints for name in j.name)
    clouds = [[(f.name, f.count) for f in malformed(random, "points", GOOD["points"]).fields] for _ in range(200)]
    assert any(count == 0 for fields in clouds for _, count in fields)
    assert any(len({name for name, _ in fields}) < len(fields) == 4 for fields in clouds)
    infos = [malformed(random, "camera_info", GOOD["camera_info"]) for _ in range(200)]
    assert len({i.distortion_model for i in infos}) > 4 and len({i.binning_x for i in infos}) > 4
    for stream in STREAMS:
        if stream != "instruction":
            headers = [malformed(random, stream, GOOD[stream]).header for _ in range(200)]
            assert len({h.stamp.sec for h in headers}) > 5 and len({h.frame_id for h in headers}) > 5
