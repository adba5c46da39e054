"""Who lets the arm move, whatever the order in which it is said; other nodes; what is known of the robot."""

from __future__ import annotations

import itertools
import json
import random
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("rclpy", reason="no ROS here: the node needs a graph")

from diagnostic_msgs.msg import DiagnosticStatus
from geometry_msgs.msg import PoseStamped
from live_graph import BEST_EFFORT, SUCCESS, LiveGraph, graph, ros, wait_for  # noqa: F401
from rclpy.executors import SingleThreadedExecutor
from std_msgs.msg import String
from std_srvs.srv import SetBool, Trigger

from mvla_pruned_ros.node import policy_node
from mvla_pruned_ros.node.ros_messages import ENCODER


def enable(graph: LiveGraph, value: bool) -> SetBool.Response:
    client = graph.robot.create_client(SetBool, "/policy/enable")
    assert client.wait_for_service(5.0)
    future = client.call_async(SetBool.Request(data=value))
    assert wait_for(future.done, 10.0)
    graph.robot.destroy_client(client)
    return future.result()


def spinning(graph: LiveGraph, arguments: list[str] | None = None) -> policy_node.PolicyNode:
    node = graph.node(arguments)
    graph._spin(SingleThreadedExecutor(), node)
    return node


def test_refusal_before_activation_holds_and_permission_before_it_is_refused(graph: LiveGraph) -> None:
    node, robot = spinning(graph), graph.robot
    refused = enable(graph, True)
    assert not refused.success and "activate it first" in refused.message
    assert enable(graph, False).success
    assert node.trigger_configure() == SUCCESS and node.trigger_activate() == SUCCESS
    assert robot.drive(lambda: robot.status and "call /policy/enable" in robot.status.message)
    robot.drive(lambda: False, timeout_s=0.7)
    assert not any(robot.speeds), "the arm moves although that was refused"
    assert enable(graph, True).success
    assert robot.drive(lambda: robot.moving)
    # A refusal outlives deactivation as well.
    assert enable(graph, False).success and node.trigger_deactivate() == SUCCESS
    robot.twists.clear()
    assert node.trigger_activate() == SUCCESS
    robot.drive(lambda: False, timeout_s=0.7)
    assert not any(robot.speeds)


def test_in_every_order_the_last_acknowledged_word_holds(graph: LiveGraph) -> None:
    """Twenty orders of enable, disable, configure, activate and deactivate, drawn at random."""
    node, robot, draw = spinning(graph), graph.robot, random.Random(1)
    assert node.trigger_configure() == SUCCESS
    active, word = False, True  # require_enable is off: as if it had been said
    for number in range(20):
        for step in draw.choices(("enable", "disable", "toggle"), k=4):
            if step == "toggle":
                assert (node.trigger_deactivate() if active else node.trigger_activate()) == SUCCESS
                active = not active
            elif enable(graph, step == "enable").success:
                word = step == "enable"
            else:
                assert step == "enable" and not active
        if not active:
            assert node.trigger_activate() == SUCCESS
            active = True
        time.sleep(0.05)
        robot.twists.clear()
        moved = robot.drive(lambda: robot.moving, timeout_s=3.0 if word else 0.4)
        assert moved == word, f"order {number}"


def test_the_later_of_two_nodes_on_a_topic_does_not_begin_to_move_the_arm(graph: LiveGraph) -> None:
    graph.active()
    robot = graph.robot
    assert robot.drive(lambda: robot.moving)
    statuses: dict[str, DiagnosticStatus] = {}

    from diagnostic_msgs.msg import DiagnosticArray

    robot.create_subscription(
        DiagnosticArray, "/diagnostics", lambda m: statuses.update({s.name: s for s in m.status}), 10
    )
    sent: list[dict[str, Any]] = []
    robot.create_subscription(String, "/second/command/sent", lambda m: sent.append(json.loads(m.data)), 50)
    arguments = ["--ros-args", "-r", "__node:=second", "-r", "/second/command/twist:=/policy/command/twist"]
    for name in ("image", "depth", "camera_info", "ee_pose", "gripper"):
        arguments += ["-r", f"/second/{name}:=/policy/{name}"]
    second = spinning(graph, arguments)
    assert second.trigger_configure() == SUCCESS and second.trigger_activate() == SUCCESS
    assert robot.drive(lambda: len(sent) > 20)
    assert all(one["safe"] for one in sent) and "another policy node, /policy" in sent[-1]["reason"]
    assert robot.drive(lambda: {"policy: inference", "second: inference"} <= set(statuses))
    assert robot.drive(lambda: "end one of the two" in statuses["policy: inference"].message)
    assert robot.drive(lambda: "is not moved by this one" in statuses["second: inference"].message)
    assert statuses["policy: inference"].level == statuses["second: inference"].level == DiagnosticStatus.ERROR


def test_node_that_is_new_looks_for_others_before_it_moves_the_arm(graph: LiveGraph) -> None:
    """Discovery may take longer than loading: who moves at once may be the second."""
    start = time.monotonic()
    graph.active(discovery_wait_ms=4000.0)
    robot = graph.robot
    assert robot.drive(lambda: robot.status and "looks for other policy nodes" in robot.status.message)
    assert robot.drive(lambda: len(robot.twists) > 5) and not any(robot.speeds)
    assert robot.drive(lambda: robot.moving)
    assert time.monotonic() - start >= 4.0


def test_rival_that_comes_later_does_not_stop_the_node_that_moves(
    graph: LiveGraph, monkeypatch: pytest.MonkeyPatch
) -> None:
    graph.active()
    robot = graph.robot
    assert robot.drive(lambda: robot.moving)
    monkeypatch.setattr("mvla_pruned_ros.node.commander.rivals", lambda *_: ["/later"])
    assert robot.drive(lambda: "/later" in robot.status.message)
    robot.drive(lambda: False, timeout_s=0.5)
    assert robot.moving


def test_publisher_that_is_no_policy_node_is_no_rival(graph: LiveGraph) -> None:
    from geometry_msgs.msg import TwistStamped

    graph.robot.create_publisher(TwistStamped, "/policy/command/twist", 1)  # a joystick with a dead man's switch
    graph.active()
    assert graph.robot.drive(lambda: graph.robot.moving)


def test_pose_that_has_died_is_never_a_target(graph: LiveGraph) -> None:
    """The stream of poses ends, somebody moves the arm, the node is told to stop: it must not go back."""
    node = graph.active(command_interface="pose", max_observation_age_ms=300.0)
    robot, poses = graph.robot, []
    robot.create_subscription(PoseStamped, "/policy/command/pose", poses.append, 50)
    assert robot.drive(lambda: len(poses) > 20)
    robot.drive(lambda: False, timeout_s=0.8, without=("ee_pose",))
    poses.clear()
    robot.drive(lambda: False, timeout_s=0.3, without=("ee_pose",))
    assert node.trigger_deactivate() == SUCCESS
    time.sleep(0.2)
    assert not poses


@pytest.mark.parametrize("wrong", ["stale", "other frame", "far away"])
def test_refused_pose_does_not_become_the_robots_state(graph: LiveGraph, wrong: str) -> None:
    graph.active(command_interface="pose")
    robot, poses = graph.robot, []
    robot.create_subscription(PoseStamped, "/policy/command/pose", poses.append, 50)
    assert robot.drive(lambda: len(poses) > 20)

    def bad() -> PoseStamped:
        now = time.time_ns()
        if wrong == "stale":
            return ENCODER.pose((0.3, 0.9, 0.4), now - 5 * 10**9, "base")
        if wrong == "other frame":
            return ENCODER.pose((0.3, 0.9, 0.4), now, "map")
        return ENCODER.pose((1e9, 0.9, 0.4), now, "base")

    poses.clear()
    until = time.monotonic() + 1.0
    while time.monotonic() < until:
        robot.out["ee_pose"].publish(bad())
        robot.send()
        time.sleep(0.05)
    positions = np.array([[p.pose.position.x, p.pose.position.y, p.pose.position.z] for p in poses])
    assert len(positions) > 10 and np.abs(positions - [0.0, 0.6, 0.2]).max() < 0.1


def test_orientation_whose_sign_alternates_gives_commands_without_flips(graph: LiveGraph) -> None:
    """q and -q are the same rotation, and some drivers send one after the other."""
    graph.active(command_interface="pose")
    robot, poses = graph.robot, []
    robot.create_subscription(PoseStamped, "/policy/command/pose", poses.append, 100)
    signs = itertools.cycle((1.0, -1.0))
    assert robot.drive(lambda: robot.calls)

    until = time.monotonic() + 3.0
    while len(poses) < 200 and time.monotonic() < until:
        sign = next(signs)
        turn = (sign * 0.6, 0.0, 0.0, sign * 0.8)
        robot.send(ee_pose=ENCODER.pose((0.0, 0.6, 0.2), time.time_ns(), "base", turn))
        time.sleep(0.02)
    turns = np.array([[getattr(p.pose.orientation, axis) for axis in "xyzw"] for p in poses])[20:]
    assert len(turns) > 50 and (np.sum(turns[1:] * turns[:-1], 1) > 0).all()


# Instructions


def test_instruction_that_came_while_loading_is_checked_then(graph: LiveGraph, monkeypatch: pytest.MonkeyPatch) -> None:
    node, load = spinning(graph), policy_node.load

    def slow(*arguments: Any) -> Any:
        loaded = load(*arguments)
        graph.robot.instruction.publish(String(data="juggle the flamingo"))
        assert wait_for(lambda: node._settings()["instruction"] == "juggle the flamingo")
        return loaded

    monkeypatch.setattr(policy_node, "load", slow)
    assert node.trigger_configure() == SUCCESS and node.trigger_activate() == SUCCESS
    assert node.get_parameter("instruction").value == ""
    assert graph.robot.drive(lambda: graph.robot.status and "flamingo" in graph.robot.status.message)
    assert not any(graph.robot.speeds)


def test_valid_instruction_ends_the_warning_and_an_empty_one_the_motion(graph: LiveGraph) -> None:
    from rclpy.parameter import Parameter

    node, robot = graph.active(), graph.robot
    assert robot.drive(lambda: robot.moving)
    robot.instruction.publish(String(data="juggle the flamingo"))
    assert robot.drive(lambda: "instruction refused" in robot.status.message)
    assert node.set_parameters([Parameter("instruction", value="push the puck to the goal")])[0].successful
    assert robot.drive(lambda: "instruction refused" not in robot.status.message)
    sent: list[dict[str, Any]] = []
    robot.create_subscription(String, "/policy/command/sent", lambda m: sent.append(json.loads(m.data)), 100)
    assert robot.drive(lambda: sent and not sent[-1]["safe"])
    assert node.set_parameters([Parameter("instruction", value="")])[0].successful
    sent.clear()
    assert wait_for(lambda: any(one["safe"] for one in sent), 2.0)
    first = next(one for one in sent if one["safe"])
    assert first["reason"] == "no instruction", "the next tick stops the arm, not the end of the chunk"


def test_good_instruction_ends_the_wait_after_five_failures(graph: LiveGraph, monkeypatch: pytest.MonkeyPatch) -> None:
    from mvla_pruned_ros.policy.runtime import PolicyRuntime

    graph.active()
    robot = graph.robot
    with monkeypatch.context() as patch:
        patch.setattr(PolicyRuntime, "infer", lambda *_: 1 / 0)
        assert robot.drive(lambda: robot.status and "5 in a row" in robot.status.message)
    robot.drive(lambda: False, timeout_s=0.5)
    assert not robot.moving
    robot.instruction.publish(String(data="push the puck"))
    assert robot.drive(lambda: robot.moving)


def test_picture_that_cannot_be_drawn_does_not_end_inference(graph: LiveGraph, monkeypatch: pytest.MonkeyPatch) -> None:
    from sensor_msgs.msg import Image

    from mvla_pruned_ros.node import call_report

    graph.active()
    robot = graph.robot
    assert robot.drive(lambda: robot.moving)
    monkeypatch.setattr(call_report, "draw_overlay", lambda *_: 1 / 0)
    robot.create_subscription(Image, "/policy/overlay", lambda _: None, BEST_EFFORT)
    assert robot.drive(lambda: "a report of a policy call failed: ZeroDivisionError" in robot.status.message)
    calls = len(robot.calls)
    assert robot.drive(lambda: len(robot.calls) > calls + 3 and robot.moving)


# The clock and latched streams


def test_slow_commands_are_no_clock_that_stands_still(graph: LiveGraph) -> None:
    graph.active(command_rate_hz=1.0, max_observation_age_ms=5000.0)
    robot, messages = graph.robot, set()
    assert robot.drive(lambda: robot.twists)
    robot.drive(lambda: messages.add(robot.status.message), timeout_s=3.0)
    assert not any("clock" in message for message in messages)


def test_camera_info_sent_once_before_the_start_is_heard_and_outlives_a_reset(
    graph: LiveGraph, camera: Callable[..., Any], tmp_path: Path
) -> None:
    from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
    from sensor_msgs.msg import CameraInfo

    latched = QoSProfile(depth=1, reliability=ReliabilityPolicy.RELIABLE, durability=DurabilityPolicy.TRANSIENT_LOCAL)
    robot = graph.robot
    robot.destroy_publisher(robot.out.pop("camera_info"))
    once = robot.create_publisher(CameraInfo, "/policy/camera_info", latched)
    once.publish(ENCODER.camera_info(graph.camera, time.time_ns(), "camera_color_optical_frame"))
    node = graph.active()
    assert robot.drive(lambda: robot.moving, without=("camera_info",))
    node._forget()  # as ~/reset and a jump of the clock do
    robot.twists.clear()
    assert robot.drive(lambda: robot.moving, without=("camera_info",))
    assert robot.drive(lambda: robot.status.level == DiagnosticStatus.OK, without=("camera_info",)), robot.status


@pytest.mark.parametrize(("step_ms", "jumps"), [(-900, True), (-1900, True), (-50, False), (900, False), (5000, True)])
def test_system_clock_that_was_set_is_told_with_the_right_cause(
    graph: LiveGraph, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], step_ms: int, jumps: bool
) -> None:
    node = graph.active()
    robot, generation = graph.robot, node._chunks.generation
    assert robot.drive(lambda: robot.moving)
    watch = node._clock_watch
    assert wait_for(lambda: watch._offset_ns is not None)
    generation = node._chunks.generation
    node._watchdog.stop()  # type: ignore[union-attr]
    watch.check_clock_step()
    watch._offset_ns -= step_ms * 10**6  # as if the clock had been set since the last look
    capfd.readouterr()
    watch.check_clock_step()
    said = capfd.readouterr().err
    assert (node._chunks.generation > generation) == jumps
    if jumps:
        assert f"set {'ahead' if step_ms > 0 else 'back'} by {abs(step_ms)} ms" in said


def test_limit_of_clock_jumps_is_live(graph: LiveGraph) -> None:
    from rclpy.parameter import Parameter

    node = graph.active(use_sim_time=True)
    robot = graph.robot
    robot.time_ns = 10 * 10**9
    assert robot.drive(lambda: robot.moving)
    generation = node._chunks.generation
    assert node.set_parameters([Parameter("max_clock_jump_ms", value=300.0)])[0].successful
    robot.time_ns += 10**9  # below the limit at start, beyond that of now
    assert robot.drive(lambda: node._chunks.generation > generation)


def test_status_carries_the_namespace_of_the_node(graph: LiveGraph) -> None:
    from diagnostic_msgs.msg import DiagnosticArray

    names: set[str] = set()
    graph.robot.create_subscription(DiagnosticArray, "/diagnostics", lambda m: names.add(m.status[0].name), 10)
    spinning(graph, ["--ros-args", "-r", "__ns:=/left"])
    assert wait_for(lambda: names)
    assert names == {"left/policy: inference"}


def test_best_effort_publisher_of_instructions_is_named(graph: LiveGraph) -> None:
    from rclpy.qos import QoSProfile, ReliabilityPolicy

    graph.robot.create_publisher(
        String, "/policy/instruction", QoSProfile(depth=1, reliability=ReliabilityPolicy.BEST_EFFORT)
    )
    graph.active()
    robot = graph.robot
    assert robot.drive(lambda: robot.status and "incompatible QoS on /policy/instruction" in robot.status.message)


@pytest.mark.parametrize("name", ["attention", "norm"])
def test_evidence_that_is_not_finite_refuses_the_call(
    graph: LiveGraph, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    from dataclasses import replace

    from mvla_pruned_ros.policy.mvla.policy import MVLAPolicy

    node = graph.active(method="tri_stage")
    robot, act = graph.robot, MVLAPolicy.act
    assert robot.drive(lambda: robot.moving)

    def spoiled(*arguments: Any) -> Any:
        output = act(*arguments)
        values = np.array(getattr(output.evidence, name))
        values[0] = np.nan
        return replace(output, evidence=replace(output.evidence, **{name: values}))

    with monkeypatch.context() as patch:
        patch.setattr(MVLAPolicy, "act", spoiled)
        assert robot.drive(lambda: f"evidence that is not finite ({name})" in robot.status.message)
        robot.drive(lambda: not robot.moving)
        assert not robot.moving
    future = robot.reset.call_async(Trigger.Request())
    assert wait_for(future.done)
    assert robot.drive(lambda: robot.moving) and node._worker is not None
