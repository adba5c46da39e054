"""What reaches the controller in a live graph: every interface, who lets the arm move, what is reported as sent.

The policies have random weights and long steps, so that a slow computer does not run out of actions.
"""

import json
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("rclpy", reason="no ROS here: the node needs a graph")

import torch
from diagnostic_msgs.msg import DiagnosticStatus
from geometry_msgs.msg import PoseStamped, TwistStamped
from live_graph import BEST_EFFORT, INSTRUCTION, SIZE, SUCCESS, LiveGraph, refusal, ros, wait_for  # noqa: F401
from mla_checkpoint import write_run
from rclpy.parameter import Parameter
from scipy.spatial.transform import Rotation
from sensor_msgs.msg import JointState
from std_msgs.msg import Empty, Float64MultiArray, String
from std_srvs.srv import SetBool, Trigger

from mvla_pruned_ros.control.limits import Limits
from mvla_pruned_ros.control.splicer import LEAST_SHARE
from mvla_pruned_ros.node import policy_node
from mvla_pruned_ros.policy.mla.convert import convert
from mvla_pruned_ros.policy.mvla.checkpoint import save_policy
from mvla_pruned_ros.policy.mvla.config import MVLAConfig
from mvla_pruned_ros.policy.mvla.instruction import InstructionTokenizer
from mvla_pruned_ros.policy.mvla.model import MVLAModel
from mvla_pruned_ros.policy.mvla.normalization import ActionNormalization
from mvla_pruned_ros.policy.runtime import PolicyRuntime
from mvla_pruned_ros.policy.source import load_policy
from mvla_pruned_ros.pruning.methods import make_pruner
from mvla_pruned_ros.types import ActionChunk, CameraModel

LOOKAHEAD_S = 0.1
SPEED = 0.2
AT = [0.0, 0.6, 0.2]  # where the robot of the graph says it is
ARM = ["shoulder", "elbow"]
JOINTS = [0.3, -0.4]


@pytest.fixture(scope="session")
def policies(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Folder of a very small policy with random weights: ``policies(action_dim=7, action_space=...)``."""
    made: dict[Any, Path] = {}

    def policy(**entries: Any) -> Path:
        key = tuple(sorted(entries.items()))
        if key not in made:
            torch.manual_seed(0)
            config = MVLAConfig(
                image_size=64, width=16, depth=1, heads=2, mlp_width=32, num_groups=16, evidence_layers=(0,),
                step_s=0.1, **entries,
            )  # fmt: skip
            tokenizer = InstructionTokenizer.from_instructions([INSTRUCTION], config.instruction_length)
            most = np.ones(config.action_dim, np.float32)
            made[key] = tmp_path_factory.mktemp("policy")
            save_policy(made[key], MVLAModel(config, tokenizer.size), tokenizer, ActionNormalization(-most, most))
        return made[key]

    return policy


class Arm:
    """What listens to one interface of the node, and lets it move."""

    def __init__(self, graph: LiveGraph, kind: type, topic: str) -> None:
        self.graph, self.robot = graph, graph.robot
        self.commands: list[Any] = []
        self.sent: list[dict[str, Any]] = []
        robot = self.robot
        robot.create_subscription(kind, f"/policy/command/{topic}", self.commands.append, 100)
        robot.create_subscription(String, "/policy/command/sent", lambda m: self.sent.append(json.loads(m.data)), 100)
        self.joint_states = robot.create_publisher(JointState, "/policy/joint_states", BEST_EFFORT)
        self.heartbeat = robot.create_publisher(Empty, "/policy/heartbeat", BEST_EFFORT)
        self.enable = robot.create_client(SetBool, "/policy/enable")

    def drive(self, until: Callable[[], Any], joints: bool = True, beat: bool = False, timeout_s: float = 15.0) -> bool:
        """Sensors at 20 Hz until something holds."""

        def step() -> bool:
            if joints:
                names, positions = ["finger", *ARM[::-1]], [0.0, *JOINTS[::-1]]
                self.joint_states.publish(JointState(name=names, position=positions))
            if beat:
                self.heartbeat.publish(Empty())
            return bool(until())

        return self.robot.drive(step, timeout_s)

    def set_enabled(self, value: bool) -> SetBool.Response:
        assert self.enable.wait_for_service(5.0)
        future = self.enable.call_async(SetBool.Request(data=value))
        assert wait_for(future.done, 10.0)
        return future.result()

    def moving_command(self) -> bool:
        """Whether an action of the policy was sent at last."""
        return bool(self.sent) and not self.sent[-1]["safe"]

    def stopped(self) -> bool:
        return bool(self.sent) and self.sent[-1]["safe"]

    def says(self, level: bytes, *parts: str) -> bool:
        """Whether diagnostics are of this level and name these."""
        status = self.robot.status
        return status is not None and status.level == level and all(part in status.message for part in parts)


@pytest.fixture
def graph(
    policies: Callable[..., Path], camera: Callable[..., CameraModel], monkeypatch: pytest.MonkeyPatch
) -> Iterator[LiveGraph]:
    monkeypatch.setattr(policy_node, "DIAGNOSTICS_PERIOD_S", 0.1)
    graph = LiveGraph(policies(), camera(SIZE, SIZE))
    active = graph.active
    patient = {"max_observation_age_ms": 3000.0, "sync_tolerance_ms": 500.0, "max_speed_m_s": SPEED}
    monkeypatch.setattr(graph, "active", lambda **given: active(**(patient | given)))
    yield graph
    graph.close()


def twists(arm: Arm) -> np.ndarray:
    """(N, 6) of all commands so far."""
    vectors = [(t.twist.linear, t.twist.angular) for t in arm.commands]
    return np.array([[v.x, v.y, v.z, w.x, w.y, w.z] for v, w in vectors])


# Interfaces


def test_seven_values_turn_the_end_effector_too_within_their_limit(
    graph: LiveGraph, policies: Callable[..., Path]
) -> None:
    arm = Arm(graph, TwistStamped, "twist")
    graph.active(policy=str(policies(action_dim=7)), max_angular_speed_rad_s=0.05)
    assert arm.drive(arm.moving_command)
    assert wait_for(lambda: np.abs(twists(arm)[:, 3:]).max() == pytest.approx(0.05))
    assert arm.drive(lambda: any(one["clamped"] for one in arm.sent))
    assert np.abs(twists(arm)[:, :3]).max() <= SPEED + 1e-9
    assert len(arm.sent[-1]["action"]) == 7


def test_pose_leads_on_from_the_measured_one_and_holds_it_when_stopped(
    graph: LiveGraph, policies: Callable[..., Path]
) -> None:
    arm = Arm(graph, PoseStamped, "pose")
    node = graph.active(policy=str(policies(action_dim=7)), command_interface="pose")
    assert arm.drive(arm.moving_command)
    assert wait_for(lambda: any(m.pose.position.x != AT[0] for m in arm.commands))
    for message in arm.commands:
        p, q = message.pose.position, message.pose.orientation
        assert np.abs(np.array([p.x, p.y, p.z]) - AT).max() <= SPEED * LOOKAHEAD_S + 1e-6
        assert np.linalg.norm([q.x, q.y, q.z, q.w]) == pytest.approx(1)
        assert message.header.frame_id == "base" and message.header.stamp.sec > 0
    assert arm.robot.grippers, "the gripper's command goes beside it"
    assert node.trigger_deactivate() == SUCCESS
    assert wait_for(arm.stopped)
    last = arm.commands[-1].pose
    assert [last.position.x, last.position.y, last.position.z] == pytest.approx(AT)
    assert last.orientation.w == 1.0


def test_policy_of_poses_is_followed_within_the_speed_limits(
    graph: LiveGraph, policies: Callable[..., Path], capfd: pytest.CaptureFixture[str]
) -> None:
    arm = Arm(graph, PoseStamped, "pose")
    folder = policies(action_dim=7, action_space="cartesian_pose", action_rotation="euler_xyz")
    graph.active(policy=str(folder), command_interface="pose", max_angular_speed_rad_s=0.2)
    assert "sends cartesian_pose (euler_xyz) as pose" in capfd.readouterr().err
    assert arm.drive(lambda: arm.moving_command() and sum(not one["safe"] for one in arm.sent) > 20)
    targets = np.array([one["sent"] for one in arm.sent if not one["safe"]])
    assert np.linalg.norm(targets[:, :3] - AT, axis=1).max() == pytest.approx(SPEED * LOOKAHEAD_S, abs=1e-5)
    assert Rotation.from_quat(targets[:, 3:]).magnitude().max() == pytest.approx(0.2 * LOOKAHEAD_S, abs=1e-5)
    assert all(len(one["action"]) == 7 for one in arm.sent if not one["safe"])


def test_upstream_policy_moves_the_arm(graph: LiveGraph, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It takes the pose that was last commanded, and answers with one step and where the hand shall point then.

    Pruned, and with the actions that the same calls have from Python.
    """
    calls: list[tuple[Any, Any]] = []
    infer = PolicyRuntime.infer

    def noted(self: PolicyRuntime, observation: Any, prepared: Any = None) -> Any:
        inference = infer(self, observation, prepared)
        calls.append((observation, inference))
        return inference

    run = write_run(tmp_path / "run")
    convert(run, tmp_path / "mla", overrides=run / "sizes.json")
    config = tmp_path / "mla" / "config.json"
    box = {"workspace_lower": MVLAConfig.workspace_lower, "workspace_upper": MVLAConfig.workspace_upper}
    lasting = {"step_s": 4.0}  # longer than a call takes on a slow CPU: there the arm would be held in between
    config.write_text(json.dumps(json.loads(config.read_text()) | box | lasting))
    arm = Arm(graph, PoseStamped, "pose")
    node = graph.active(
        policy=str(tmp_path / "mla"), command_interface="pose", instruction="open the box", method="tri_stage"
    )
    monkeypatch.setattr(PolicyRuntime, "infer", noted)
    graph.robot.reset.call_async(Trigger.Request())  # from here on all calls are noted
    assert arm.drive(lambda: sum(not one["safe"] for one in arm.sent) > 40 and len(calls) > 4, timeout_s=40.0)
    targets = np.array([one["sent"] for one in arm.sent if not one["safe"]])
    assert np.linalg.norm(targets[:, :3] - AT, axis=1).max() <= SPEED * LOOKAHEAD_S + 1e-5
    assert Rotation.from_quat(targets[:, 3:]).magnitude().max() > 0.01
    assert {abs(one["gripper"]) for one in arm.sent if not one["safe"]} == {1.0}, "open or closed"
    assert node.trigger_deactivate() == SUCCESS
    monkeypatch.undo()
    first = max(i for i, (_, inference) in enumerate(calls) if inference.selection.is_full)
    assert len(calls) - first > 1 and calls[-1][1].selection.keep_ratio == pytest.approx(0.5, abs=0.02)
    assert not np.array_equal(calls[-1][0].state.last_command[:3], calls[-1][0].state.position), "what was commanded"
    runtime = PolicyRuntime(load_policy(str(tmp_path / "mla")), make_pruner("tri_stage", 0.5))
    for observation, live in calls[first:]:
        again = runtime.infer(observation)
        np.testing.assert_array_equal(again.chunk.actions, live.chunk.actions)
        np.testing.assert_array_equal(again.selection.kept, live.selection.kept)


def test_late_chunk_of_an_arm_at_rest_begins_with_its_first_action(
    graph: LiveGraph, monkeypatch: pytest.MonkeyPatch
) -> None:
    arm, infer = Arm(graph, TwistStamped, "twist"), PolicyRuntime.infer

    def slow(self: PolicyRuntime, observation: Any) -> Any:
        inference = infer(self, observation)
        time.sleep(0.25)  # two and a half actions
        return inference

    monkeypatch.setattr(PolicyRuntime, "infer", slow)
    graph.active()
    assert arm.drive(lambda: len({one["chunk_stamp_ns"] for one in arm.sent if not one["safe"]}) > 1)
    moving = [one for one in arm.sent if not one["safe"]]
    first = moving[0]["chunk_stamp_ns"]
    assert moving[0]["action_index"] == 0, "it was seen at rest"
    assert next(one["action_index"] for one in moving if one["chunk_stamp_ns"] != first) > 1, "it was seen on the way"


def test_action_that_is_no_rotation_stops_the_arm(
    graph: LiveGraph, policies: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    arm, infer = Arm(graph, TwistStamped, "twist"), PolicyRuntime.infer
    graph.active(policy=str(policies(action_dim=10, action_space="cartesian_pose", action_rotation="rotation_6d")))
    assert arm.drive(arm.moving_command)

    def flat(self: PolicyRuntime, observation: Any) -> Any:
        inference = infer(self, observation)
        return replace(inference, chunk=replace(inference.chunk, actions=np.zeros((16, 10), np.float32)))

    monkeypatch.setattr(PolicyRuntime, "infer", flat)
    assert arm.drive(lambda: arm.stopped() and "is no rotation" in arm.sent[-1]["reason"])
    assert not twists(arm)[-1].any()
    assert arm.drive(lambda: arm.says(DiagnosticStatus.ERROR, "is no rotation", "the arm is stopped"))


def test_direction_of_a_fast_action_is_kept_if_that_is_asked(graph: LiveGraph) -> None:
    arm = Arm(graph, TwistStamped, "twist")
    node = graph.active(max_speed_m_s=0.01)
    assert arm.drive(lambda: sum(one["clamped"] for one in arm.sent) > 10)
    assert np.linalg.norm(twists(arm)[:, :3], axis=1).max() > 0.011, "up to the limit along each axis"
    assert node.set_parameters([Parameter("speed_limit", value="norm")])[0].successful
    arm.sent.clear()
    assert arm.drive(lambda: sum(one["clamped"] for one in arm.sent) > 20)
    one = arm.sent[-1]
    action, sent = np.array(one["action"][:3]), np.array(one["sent"][:3])
    assert np.linalg.norm(sent) == pytest.approx(0.01, abs=1e-5)
    assert one["spliced"] or sent / 0.01 == pytest.approx(action / np.linalg.norm(action), abs=1e-3)


def test_target_pose_stays_in_the_workspace(graph: LiveGraph) -> None:
    arm = Arm(graph, PoseStamped, "pose")
    lower, upper = [-0.001, 0.599, 0.199], [0.001, 0.601, 0.201]
    graph.active(command_interface="pose", workspace_lower=lower, workspace_upper=upper)
    assert arm.drive(lambda: any(one["clamped"] for one in arm.sent))
    positions = np.array([[m.pose.position.x, m.pose.position.y, m.pose.position.z] for m in arm.commands])
    assert (positions >= np.array(lower) - 1e-6).all() and (positions <= np.array(upper) + 1e-6).all()


def test_joint_trajectory_needs_measured_joints_and_stops_when_they_are_silent(
    graph: LiveGraph, policies: Callable[..., Path]
) -> None:
    messages = pytest.importorskip("trajectory_msgs.msg", reason="trajectory_msgs is not installed")
    arm = Arm(graph, messages.JointTrajectory, "joint_trajectory")
    graph.active(
        policy=str(policies(action_dim=3, action_space="joint_velocity")),
        command_interface="joint_trajectory",
        joint_names=ARM,
        max_observation_age_ms=1500.0,
    )
    refused = (DiagnosticStatus.ERROR, "the positions of the joints are not known", "/policy/joint_states")
    assert arm.drive(lambda: arm.says(*refused), joints=False)
    assert not arm.commands, "a trajectory that starts from a guess"
    assert arm.drive(lambda: arm.moving_command() and any(not one["safe"] for one in arm.sent))
    moved = [m for m in arm.commands if m.points[0].positions.tolist() != JOINTS]
    assert moved
    for message in arm.commands:
        point = message.points[0]
        assert message.joint_names == ARM and len(message.points) == 1 and not point.velocities
        assert (message.header.stamp.sec, message.header.stamp.nanosec) == (0, 0), "at once, whatever its clock says"
        assert point.time_from_start.nanosec == LOOKAHEAD_S * 1e9
        assert np.abs(np.array(point.positions) - JOINTS).max() <= Limits.max_joint_speed * LOOKAHEAD_S + 1e-9
    assert arm.drive(lambda: arm.stopped() and arm.says(*refused), joints=False)
    assert arm.drive(lambda: arm.stopped() and arm.sent[-1]["sent"] is None, joints=False)
    arm.sent.clear(), arm.commands.clear()
    assert arm.drive(lambda: len(arm.sent) > 20, joints=False)
    assert not arm.commands, "nobody knows where the joints are: there is nothing to hold"
    assert all("nothing is sent: the positions of the joints are not known" in one["reason"] for one in arm.sent)


def test_numbers_for_a_forward_controller_hold_the_measured_joints(
    graph: LiveGraph, policies: Callable[..., Path]
) -> None:
    arm = Arm(graph, Float64MultiArray, "multi_array")
    node = graph.active(
        policy=str(policies(action_dim=3, action_space="joint_position")),
        command_interface="multi_array",
        joint_names=ARM,
        joint_upper=[0.31, 1.0],
    )
    assert arm.drive(lambda: arm.moving_command() and arm.commands[-1].data.tolist() != JOINTS)
    values = np.array([m.data.tolist() for m in arm.commands])
    assert (values[:, 0] <= 0.31).all() and np.abs(values - JOINTS).max() <= 0.25 * LOOKAHEAD_S + 1e-9
    assert arm.commands[-1].layout.dim[0].label == "shoulder, elbow"
    assert node.trigger_deactivate() == SUCCESS
    assert wait_for(lambda: arm.commands[-1].data.tolist() == JOINTS)
    wrong = node.set_parameters([Parameter("joint_lower", value=[0.0, 0.0, 0.0])])[0]
    assert not wrong.successful and "joint_lower has 3 numbers" in wrong.reason


def test_numbers_of_a_cartesian_policy_are_six_velocities_and_zero_when_stopped(graph: LiveGraph) -> None:
    arm = Arm(graph, Float64MultiArray, "multi_array")
    node = graph.active(command_interface="multi_array")
    assert arm.drive(lambda: arm.moving_command() and any(arm.commands[-1].data))
    assert len(arm.commands[-1].data) == 6 and arm.commands[-1].data.tolist()[3:] == [0, 0, 0]
    assert node.trigger_deactivate() == SUCCESS
    assert wait_for(lambda: not any(arm.commands[-1].data))


@pytest.mark.parametrize(
    "entries, parameters, message",
    [
        (
            {"action_dim": 3, "action_space": "joint_velocity"},
            {},
            "twist cannot carry actions of the space joint_velocity",
        ),
        (
            {"action_dim": 3, "action_space": "joint_velocity"},
            {"command_interface": "multi_array"},
            "name them in joint_names",
        ),
        ({}, {"command_interface": "joint_trajectory"}, "cannot carry actions of the space cartesian_velocity"),
        ({"action_dim": 5}, {}, "gives 5 values per action: 4 (velocity x, y, z and gripper) or 7"),
    ],
)
def test_interface_that_does_not_fit_the_policy_fails_configure_with_the_remedy(
    graph: LiveGraph, policies: Callable[..., Path], capfd: pytest.CaptureFixture[str], entries: dict, parameters: dict,
    message: str,
) -> None:  # fmt: skip
    if parameters.get("command_interface") == "joint_trajectory":
        pytest.importorskip("trajectory_msgs", reason="trajectory_msgs is not installed")
    assert message in refusal(graph.node(policy=str(policies(**entries)), **parameters), capfd)


# Who lets the arm move


def test_disabled_arm_gets_one_safe_command_and_nothing_until_it_is_enabled(graph: LiveGraph) -> None:
    arm = Arm(graph, TwistStamped, "twist")
    graph.active()
    assert arm.drive(arm.moving_command)
    assert arm.set_enabled(False).success
    assert wait_for(arm.stopped)
    count = len(arm.commands)
    arm.drive(lambda: False, timeout_s=0.5)
    assert len(arm.commands) == count and not twists(arm)[-1].any()
    assert arm.sent[-1]["reason"] == "not enabled: call /policy/enable"
    assert wait_for(lambda: arm.says(DiagnosticStatus.WARN, "not enabled: call /policy/enable"))
    assert arm.set_enabled(True).success
    assert arm.drive(arm.moving_command)


def test_arm_that_requires_it_does_not_move_before_it_is_enabled_and_not_after_a_new_activation(
    graph: LiveGraph,
) -> None:
    arm = Arm(graph, TwistStamped, "twist")
    node = graph.active(require_enable=True)
    assert arm.drive(lambda: len(arm.robot.calls) > 2)
    assert not twists(arm).any() and len(arm.commands) == 1
    assert arm.set_enabled(True).success
    assert arm.drive(arm.moving_command)
    assert node.trigger_deactivate() == SUCCESS and node.trigger_activate() == SUCCESS
    arm.sent.clear()
    arm.robot.calls.clear()
    assert arm.drive(lambda: len(arm.robot.calls) > 2)
    assert all(one["safe"] for one in arm.sent)


def test_silent_heartbeat_stops_the_arm_until_it_is_enabled_again(graph: LiveGraph) -> None:
    arm = Arm(graph, TwistStamped, "twist")
    graph.active(heartbeat_timeout_ms=1000.0)
    assert arm.drive(lambda: arm.says(DiagnosticStatus.WARN, "no heartbeat on /policy/heartbeat yet"))
    assert not twists(arm).any()
    assert arm.drive(arm.moving_command, beat=True)
    assert arm.drive(lambda: arm.stopped() and arm.says(DiagnosticStatus.ERROR, "/policy/heartbeat", "1000 ms"))
    assert not twists(arm)[-1].any()
    refused = arm.set_enabled(True)
    assert not refused.success and "/policy/heartbeat" in refused.message
    assert arm.drive(lambda: arm.says(DiagnosticStatus.ERROR, "is back", "/policy/enable"), beat=True)
    assert arm.stopped(), "an arm that starts by itself"
    enabled = []
    assert arm.drive(lambda: enabled or enabled.append(arm.set_enabled(True).success) or enabled, beat=True)
    assert enabled == [True]
    assert arm.drive(arm.moving_command, beat=True)


def test_silent_heartbeat_stops_the_arm_while_the_policy_hangs(
    graph: LiveGraph, monkeypatch: pytest.MonkeyPatch
) -> None:
    arm = Arm(graph, TwistStamped, "twist")
    graph.active(heartbeat_timeout_ms=500.0, max_observation_age_ms=60000.0)
    assert arm.drive(arm.moving_command, beat=True)
    hanging: list[int] = []
    monkeypatch.setattr(
        "mvla_pruned_ros.policy.runtime.PolicyRuntime.infer", lambda *_: hanging.append(1) or time.sleep(4) or None
    )
    assert arm.drive(lambda: hanging, beat=True)
    assert wait_for(lambda: arm.stopped() and "no heartbeat" in arm.sent[-1]["reason"], 3.0), arm.sent[-1]


# What was sent


def test_each_command_is_reported_with_what_was_asked_and_what_became_of_it(graph: LiveGraph) -> None:
    arm = Arm(graph, TwistStamped, "twist")
    node = graph.active(max_speed_m_s=0.01)
    assert arm.drive(lambda: sum(one["clamped"] for one in arm.sent) > 10)
    one = next(one for one in arm.sent if one["clamped"])
    assert one["interface"] == "twist" and not one["safe"] and one["reason"] == ""
    assert len(one["action"]) == 4 and len(one["sent"]) == 6
    assert np.clip(one["action"][:3], -0.01, 0.01) == pytest.approx(one["sent"][:3], abs=2e-6)
    assert one["gripper"] == pytest.approx(one["action"][3], abs=1e-5)
    assert one["chunk_stamp_ns"] <= one["stamp_ns"] and 0 <= one["action_index"] < 16
    stamps = {t.header.stamp.sec * 10**9 + t.header.stamp.nanosec for t in arm.commands}
    assert one["stamp_ns"] in stamps, "the report is of a command that was sent"
    assert node.trigger_deactivate() == SUCCESS
    assert wait_for(arm.stopped)
    assert arm.sent[-1]["reason"] == "deactivated" and arm.sent[-1]["action"] is None and not any(arm.sent[-1]["sent"])


def test_exhausted_chunk_is_given_as_the_reason_of_the_safe_command(graph: LiveGraph) -> None:
    arm = Arm(graph, TwistStamped, "twist")
    graph.active(max_observation_age_ms=60000.0)
    assert arm.drive(arm.moving_command)
    assert wait_for(lambda: arm.stopped() and arm.sent[-1]["reason"] == "the chunk is exhausted", 5.0)


def test_commands_are_led_from_chunk_to_chunk_until_that_is_switched_off(
    graph: LiveGraph, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Chunks that step by 0.01 and begin 0.3 apart."""
    arm, count = Arm(graph, TwistStamped, "twist"), iter(range(10**6))
    infer = PolicyRuntime.infer

    def sawtooth(self: PolicyRuntime, observation: Any) -> Any:
        inference = infer(self, observation)
        values = 0.3 * (next(count) % 2) + 0.01 * np.arange(16)
        actions = np.repeat(values, 4).reshape(16, 4).astype(np.float32)
        return replace(inference, chunk=ActionChunk(observation.stamp_ns, 0.1, actions))

    node = graph.active(command_rate_hz=80.0, max_speed_m_s=10.0)
    assert arm.drive(arm.moving_command)
    monkeypatch.setattr(PolicyRuntime, "infer", sawtooth)
    assert arm.drive(lambda: sum(one["spliced"] for one in arm.sent) > 20)
    assert wait_for(lambda: int(arm.robot.values().get("commands_spliced", 0)) > 20)
    led = [(before, one) for before, one in pairwise(arm.sent) if one["spliced"]]
    assert all(one["action"][0] != one["sent"][0] for _, one in led)
    assert all(one["action"][3] == pytest.approx(one["gripper"], abs=1e-5) for _, one in led), "the gripper never waits"
    jumps = [abs(one["sent"][0] - before["sent"][0]) for before, one in led if not before["safe"]]
    assert jumps and max(jumps) <= max(0.01, LEAST_SHARE * 0.45) + 1e-5
    assert node.set_parameters([Parameter("splice", value="switch")])[0].successful
    arm.sent.clear()

    def switched() -> list[float]:
        """Jumps where chunks meet."""
        pairs = [(a, b) for a, b in pairwise(arm.sent) if not a["safe"] and not b["safe"]]
        met = [(a, b) for a, b in pairs if a["chunk_stamp_ns"] != b["chunk_stamp_ns"]]
        return [abs(b["sent"][0] - a["sent"][0]) for a, b in met[1:]]

    assert arm.drive(lambda: len(arm.sent) > 100 and len(switched()) > 2 and max(switched()) > 0.1)
    assert not any(one["spliced"] for one in arm.sent[-50:])  # reports from before may still have been on their way
