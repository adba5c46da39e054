"""Extrinsics judged by where the hand is seen, and other checks of ``preflight`` that are functions of plain data."""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
import pytest
from preflight_robot import CAMERA, HAND, HAND_M, observation, turned
from scipy.spatial.transform import Rotation

from mvla_pruned_ros.policy.runtime import WarmUp
from mvla_pruned_ros.policy.source import PolicySource
from mvla_pruned_ros.preflight.finding import Finding, Level, exit_code
from mvla_pruned_ros.preflight.hand_check import hand_seen, judge_hand, plane_tilt
from mvla_pruned_ros.preflight.policy_checks import Trial, judge_policy
from mvla_pruned_ros.preflight.remedies import remedy_of
from mvla_pruned_ros.preflight.scene_checks import missing_link
from mvla_pruned_ros.preflight.stream_checks import offset_s, stamp_remedy
from mvla_pruned_ros.preflight.topic_names import alternatives
from mvla_pruned_ros.types import Observation

POSE = CAMERA.base_from_camera
IMAGE, INFO = ("sensor_msgs/msg/Image",), ("sensor_msgs/msg/CameraInfo",)
COMPRESSED, CLOUD = ("sensor_msgs/msg/CompressedImage",), ("sensor_msgs/msg/PointCloud2",)
REALSENSE = {
    "/camera/color/image_raw": IMAGE,
    "/camera/color/image_raw/compressed": COMPRESSED,
    "/camera/color/camera_info": INFO,
    "/camera/depth/image_rect_raw": IMAGE,
    "/camera/depth/camera_info": INFO,
    "/camera/depth/color/points": CLOUD,
    "/camera/infra1/image_rect_raw": IMAGE,
    "/camera/aligned_depth_to_color/image_raw": IMAGE,
    "/camera/aligned_depth_to_color/image_raw/compressedDepth": COMPRESSED,
    "/joint_states": ("sensor_msgs/msg/JointState",),
    "/franka_gripper/joint_states": ("sensor_msgs/msg/JointState",),
    "/franka_robot_state_broadcaster/current_pose": ("geometry_msgs/msg/PoseStamped",),
}


def believed(right: Observation, by_m: np.ndarray) -> Observation:
    """The same, seen by a camera that is believed to stand beside where it is: (3,) metres, base frame."""
    view = right.views[0]
    pose = view.camera.base_from_camera.copy()
    pose[:3, 3] += by_m
    views = (replace(view, camera=turned(pose, view.camera)), *right.views[1:])
    return replace(right, views=views, points=(right.points + by_m).astype(np.float32))


@pytest.mark.parametrize("task", ["push", "button-press-topdown"])
def test_hand_of_the_simulated_arm_is_seen_where_it_is(task: str) -> None:
    pytest.importorskip("metaworld", reason="the simulator (Meta-World) is not installed")
    from mvla_pruned_ros.sim.robot import robot_of

    robot = robot_of(task)
    robot.reset(0)
    for steps in (0, 15, 30):
        for _ in range(steps):
            robot.step(robot.expert_command())
        seen = robot.observe()
        right = judge_hand(seen, given=True)
        assert right.level is Level.OK, right.found
        aside = seen.views[0].camera.base_from_camera[:3, 0] * 0.05
        for sign in (1, -1):
            wrong = judge_hand(believed(seen, sign * aside), given=True)
            assert wrong.level is Level.FAIL, wrong.found


def test_distance_of_the_hand_is_measured() -> None:
    seen = hand_seen(observation().points, CAMERA, HAND)
    assert not seen.unseen and not seen.fault
    assert seen.nearest_m == pytest.approx(HAND_M, abs=2e-3)
    assert abs(seen.side_m) < 5e-3 and -HAND_M < seen.ahead_m < -0.01


@pytest.mark.parametrize(
    ("words", "wrong"),
    [
        ("quaternion read as w x y z", Rotation.from_quat(np.roll(Rotation.from_matrix(POSE[:3, :3]).as_quat(), 1))),
        ("camera's body", Rotation.from_matrix(POSE[:3, :3] @ np.array([[0, -1, 0], [0, 0, -1], [1, 0, 0]]))),
    ],
)
def test_swapped_axes_are_recognised_and_put_right(words: str, wrong: Rotation) -> None:
    pose = POSE.copy()
    pose[:3, :3] = wrong.as_matrix()
    found = judge_hand(observation(turned(pose)), given=True)
    assert found.level is Level.FAIL and words in found.found and "axes are swapped" in found.found
    numbers = [float(text) for text in re.findall(r"-?\d+\.\d+", found.remedy)]
    np.testing.assert_allclose(numbers[:3], POSE[:3, 3], atol=1e-5)
    turn = Rotation.from_quat(numbers[3:]).as_matrix()
    np.testing.assert_allclose(turn, POSE[:3, :3], atol=1e-4)
    unsure = judge_hand(observation(turned(pose)), given=False)
    assert unsure.level in (Level.UNKNOWN, Level.WARN, Level.FAIL) and "swapped" not in unsure.found


def test_what_cannot_be_judged_is_said() -> None:
    right = observation()

    def judged(**changes: object) -> Finding:
        return judge_hand(replace(right, **changes), given=True)

    uv, depth = CAMERA.project(right.points)
    hole = np.hypot(*(uv - CAMERA.project(HAND[None])[0]).T) < 12
    assert "little depth" in judged(points=right.points[~hole]).found
    towards = POSE[:3, 3] - HAND
    plate = HAND + towards * 0.5 + np.random.default_rng(0).uniform(-0.06, 0.06, (3000, 3)).astype(np.float32)
    hidden = judged(points=np.concatenate([right.points, plate]).astype(np.float32))
    assert hidden.level is Level.UNKNOWN and "hides it" in hidden.found
    near = judged(state=replace(right.state, position=(POSE @ [0, 0, 0.2, 1])[:3].astype(np.float32)))
    assert near.level is Level.UNKNOWN and "20.0 cm before the camera" in near.found
    outside = judged(state=replace(right.state, position=(POSE @ [2, 0, 1, 1])[:3].astype(np.float32)))
    assert outside.level is Level.UNKNOWN and "not in the picture, but at pixel (346, 64)" in outside.found
    behind = judged(state=replace(right.state, position=(POSE @ [0, 0, -1, 1])[:3].astype(np.float32)))
    assert behind.level is Level.UNKNOWN and "behind the camera" in behind.found and "preflight.png" in behind.remedy


def test_a_table_must_be_level() -> None:
    rng = np.random.default_rng(0)
    table = np.column_stack([rng.uniform(-0.5, 0.5, (3000, 2)), rng.normal(0, 1e-3, 3000)])
    assert plane_tilt(table) == pytest.approx(0.0, abs=2.0)
    tilted = table @ Rotation.from_euler("x", 20, degrees=True).as_matrix().T
    assert plane_tilt(tilted) == pytest.approx(20.0, abs=2.0)
    assert plane_tilt(rng.uniform(-1, 1, (3000, 3))) is None and plane_tilt(table[:5]) is None


@pytest.mark.parametrize(
    ("stream", "wanted", "found"),
    [
        ("image", IMAGE, ("/camera/color/image_raw", "")),
        ("image", COMPRESSED, ("/camera/color/image_raw/compressed", "")),
        ("depth", IMAGE, ("/camera/aligned_depth_to_color/image_raw", "")),
        ("camera_info", INFO, ("/camera/color/camera_info", "")),
        ("points", CLOUD, ("/camera/depth/color/points", "")),
        ("gripper", ("sensor_msgs/msg/JointState",), ("/franka_gripper/joint_states", "")),
        ("ee_pose", ("geometry_msgs/msg/PoseStamped",), ("/franka_robot_state_broadcaster/current_pose", "")),
    ],
)
def test_topics_of_a_realsense_and_a_franka_are_found(
    stream: str, wanted: tuple[str, ...], found: tuple[str, str]
) -> None:
    assert alternatives(stream, wanted, REALSENSE)[0] == found
    assert alternatives(stream, ("std_msgs/msg/Empty",), REALSENSE) == []


def test_compressed_topics_need_their_transport() -> None:
    topics = {name: types for name, types in REALSENSE.items() if types == COMPRESSED}
    assert alternatives("image", IMAGE, topics)[0] == ("/camera/color/image_raw/compressed", "compressed")
    assert alternatives("depth", IMAGE, topics) == [
        ("/camera/aligned_depth_to_color/image_raw/compressedDepth", "compressedDepth")
    ]


def test_offset_of_stamps_is_that_of_the_nearest() -> None:
    images = np.arange(10) * 100_000_000 + 10**18
    assert offset_s(images + 30_000_000, images) == pytest.approx(0.03)
    assert offset_s(images - 9_000_000_000, images) == pytest.approx(-8.55)  # the last of them is the nearest
    assert offset_s(images[:1], images[:1]) == 0.0 and offset_s(images[:0], images) == 0.0
    slow = images[::3]
    assert abs(offset_s(slow, images)) <= 0.1


@pytest.mark.parametrize(
    ("stamps", "ages", "says"),
    [
        ([0, 0], [], "leaves header.stamp zero"),
        ([5 * 10**9 + 1] * 3, [], "global_time_enabled"),
        ([1_700_000_000 * 10**9, 1_700_000_001 * 10**9], [], "whole seconds"),
        ([1_700_000_000 * 10**9 + 7], [0.5, 0.9, 0.7], "come late"),
        ([1_700_000_000 * 10**9 + 7], [9.26, 9.26], "chronyc"),
    ],
)
def test_remedy_of_stamps_follows_from_how_they_are_wrong(stamps: list[int], ages: list[float], says: str) -> None:
    assert says in stamp_remedy(np.array(stamps), ages)


def test_link_between_two_trees_and_frames_that_are_not_there() -> None:
    parents = {"tool0": "link7", "link7": "base", "camera_optical": "camera_link"}
    assert missing_link(parents, "base", "tool0", "end effector") is None
    apart = missing_link(parents, "base", "camera_optical", "image")
    assert apart is not None and "hangs below 'camera_link'" in apart.found
    assert "--frame-id base --child-frame-id camera_link" in apart.remedy
    other = missing_link(parents, "base", "tool_0", "end effector")
    assert other is not None and other.remedy == "ee_frame: tool0"


def test_remedy_of_a_refusal_without_a_rule_is_what_it_says_itself() -> None:
    assert remedy_of("something is wrong: do this") == "do this"
    assert remedy_of("something is wrong") == "see docs/topics.md"


@pytest.mark.parametrize(
    ("call_ms", "age_ms", "level", "says"),
    [
        (40.0, 10.0, Level.OK, "50 ms pass from a picture to its actions, and a chunk lasts 200 ms"),
        (90.0, 30.0, Level.WARN, "120 ms pass .* the arm may stop between chunks"),
        (150.0, 60.0, Level.FAIL, "every chunk is over before it is in place"),
        (199.0, 0.0, Level.WARN, "slow_policy_ms is 100"),
    ],
)
def test_call_must_be_over_before_its_chunk(call_ms: float, age_ms: float, level: Level, says: str) -> None:
    policy = PolicySource.of("small").load("cpu")
    times = WarmUp(2 * call_ms, 1.5 * call_ms, call_ms)
    found = judge_policy(policy, times, Trial(), 0.5, 100.0 if "slow" in says else 1000.0, age_ms)
    hits = [finding for finding in found if finding.check == "deadline" and re.search(says, finding.found)]
    assert [finding.level for finding in hits] == [level], found
    assert level is Level.OK or "keep_ratio: 0.25" in hits[0].remedy or "slow_policy_ms: 298" in hits[0].remedy


def test_exit_code_is_that_of_the_worst() -> None:
    levels = {
        (): 0,
        (Level.OK,): 0,
        (Level.OK, Level.UNKNOWN): 0,
        (Level.WARN, Level.OK): 1,
        (Level.WARN, Level.FAIL): 2,
    }
    for each, code in levels.items():
        assert exit_code([Finding("check", level, "") for level in each]) == code
