"""The policy node in a live graph: commands, faults, parameters, life cycle.

A made-up robot publishes the sensors; the policy has random weights, so commands mean nothing but are not zero.
"""

import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("rclpy", reason="no ROS here: the node needs a graph")

import rclpy
import torch
from diagnostic_msgs.msg import DiagnosticStatus
from live_graph import (  # noqa: F401
    BEST_EFFORT,
    CAMERA,
    FAILURE,
    INSTRUCTION,
    SIZE,
    STREAMS,
    SUCCESS,
    LiveGraph,
    Robot,
    graph,
    refusal,
    ros,
    wait_for,
)
from mla_checkpoint import write_run
from rclpy.parameter import Parameter
from safetensors.torch import load_file, save_file
from scipy.spatial.transform import Rotation
from sensor_msgs.msg import Image, PointCloud2
from std_msgs.msg import String
from std_srvs.srv import Trigger

from mvla_pruned_ros.messages.decode import stamp_ns
from mvla_pruned_ros.node.ros_messages import ENCODER
from mvla_pruned_ros.policy.mla.convert import convert
from mvla_pruned_ros.policy.runtime import WarmUp
from mvla_pruned_ros.types import CameraModel

# Commands


def test_commands_come_at_their_rate_whatever_the_camera_does(graph: LiveGraph) -> None:
    graph.active(command_rate_hz=50.0)
    robot = graph.robot
    assert robot.drive(lambda: robot.moving)
    before, grippers, start = len(robot.twists), len(robot.grippers), time.monotonic()
    robot.drive(lambda: False, timeout_s=1.0)
    rate = (len(robot.twists) - before) / (time.monotonic() - start)
    assert 25 < rate < 60  # a busy computer delays timers; the camera sends 20
    last = robot.twists[-1]
    assert last.header.frame_id == "base"
    assert abs(time.time_ns() - stamp_ns(last.header)) < 1e9
    assert np.mean(np.array(robot.speeds[before:]) > 0) > 0.8  # a stall of the computer may exhaust a chunk
    assert len(robot.grippers) - grippers == pytest.approx(len(robot.twists) - before, abs=2)


def test_nothing_is_said_to_the_gripper_before_the_first_action(graph: LiveGraph) -> None:
    graph.active(instruction="")
    robot = graph.robot
    assert wait_for(lambda: len(robot.twists) > 10)
    assert not any(robot.speeds) and not robot.grippers


def test_exhausted_chunk_stops_the_arm_and_holds_the_gripper(graph: LiveGraph) -> None:
    graph.active()
    robot = graph.robot
    assert robot.drive(lambda: robot.moving)
    assert wait_for(lambda: not robot.moving, 2.0)
    gripper = robot.grippers[-1]
    time.sleep(0.2)
    assert not any(robot.speeds[-5:])
    assert robot.grippers[-1] == gripper != 0


def test_speed_limit_holds_and_is_counted(graph: LiveGraph) -> None:
    graph.active(max_speed_m_s=0.01)
    robot = graph.robot
    assert robot.drive(lambda: robot.moving)
    largest = max(max(abs(t.twist.linear.x), abs(t.twist.linear.y), abs(t.twist.linear.z)) for t in robot.twists)
    assert 0 < largest <= 0.01 + 1e-6
    assert wait_for(lambda: int(robot.values().get("commands_clamped", 0)) > 0)


def test_each_call_is_reported_when_somebody_listens(graph: LiveGraph) -> None:
    graph.active(keep_ratio=0.25)
    robot = graph.robot
    clouds: list[PointCloud2] = []
    pictures: list[Image] = []
    robot.create_subscription(PointCloud2, "/policy/kept_points", clouds.append, BEST_EFFORT)
    robot.create_subscription(Image, "/policy/overlay", pictures.append, BEST_EFFORT)
    assert robot.drive(lambda: len(robot.calls) > 3 and clouds and pictures)
    call = robot.calls[-1]
    assert call["image_kept"] + call["points_kept"] == round(0.25 * (call["image_in"] + call["points_in"]))
    assert call["keep_ratio"] == pytest.approx(0.25, abs=0.01)
    assert call["policy_ms"] > 0 and call["frames_received"] > 3 and call["stamp_ns"] > 0
    assert [f.name for f in clouds[-1].fields] == ["x", "y", "z", "salience", "set"]
    assert pictures[-1].encoding == "rgb8" and len(pictures[-1].data) == pictures[-1].step * pictures[-1].height


def test_pruning_that_does_not_pay_is_left_out_until_it_is_asked_for_anew(
    graph: LiveGraph, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(WarmUp, "pruning_pays", False)
    node, robot = graph.active(prune="auto"), graph.robot
    assert robot.drive(lambda: len(robot.calls) > 3)
    assert all(call["keep_ratio"] == 1 for call in robot.calls)
    assert wait_for(lambda: robot.values().get("pruning") == "False")
    assert node.set_parameters([Parameter("keep_ratio", value=0.25)])[0].successful
    assert robot.drive(lambda: robot.calls[-1]["keep_ratio"] == pytest.approx(0.25, abs=0.01))
    assert wait_for(lambda: robot.values().get("pruning") == "True")


def test_pruning_is_not_left_out_unless_that_was_allowed(graph: LiveGraph, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(WarmUp, "pruning_pays", False)
    graph.active()
    robot = graph.robot
    assert robot.drive(lambda: len(robot.calls) > 1)
    assert robot.calls[-1]["keep_ratio"] == pytest.approx(0.5, abs=0.01)


# Faults


def test_camera_infos_without_their_images_name_the_remedy(graph: LiveGraph) -> None:
    """Large messages are lost, small ones arrive: what a shared-memory segment that is too small looks like."""
    graph.active()
    robot = graph.robot
    assert robot.drive(lambda: robot.moving)
    assert robot.drive(
        lambda: "images arrived in the last 4 s" in robot.status.message and "fastdds.xml" in robot.status.message,
        without=("image",),
    )
    assert robot.status.level == DiagnosticStatus.ERROR and "no data" in robot.status.message


def test_silent_camera_stops_the_arm_and_names_the_stream(graph: LiveGraph) -> None:
    graph.active(max_observation_age_ms=300.0)
    robot = graph.robot
    assert robot.drive(lambda: robot.moving)
    robot.drive(lambda: False, timeout_s=0.8, without=("image",))
    assert not any(robot.speeds[-10:])
    assert wait_for(lambda: robot.status and robot.status.level == DiagnosticStatus.ERROR)
    assert "/policy/image" in robot.status.message and "/policy/depth" not in robot.status.message
    assert robot.drive(lambda: robot.moving and robot.status.level == DiagnosticStatus.OK), robot.status.message


def test_dead_depth_stops_the_arm_and_names_the_stream(graph: LiveGraph) -> None:
    graph.active(max_observation_age_ms=300.0)
    robot = graph.robot
    assert robot.drive(lambda: robot.moving)
    robot.drive(lambda: False, timeout_s=0.8, without=("depth",))
    assert not robot.moving
    assert wait_for(lambda: robot.status and "/policy/depth" in robot.status.message)
    assert robot.drive(lambda: robot.moving)


def test_wrong_encoding_is_refused_and_the_node_lives(graph: LiveGraph) -> None:
    graph.active()
    robot = graph.robot
    strange = ENCODER.image(robot.pixels, "rgb8", 0, CAMERA)
    strange.encoding = "8UC3"

    def send_strange() -> bool:
        strange.header.stamp = ENCODER.time(time.time_ns())
        return bool(robot.status and "8UC3" in robot.status.message)

    assert robot.drive(send_strange, image=strange), robot.status
    assert not robot.moving
    assert robot.drive(lambda: robot.moving and robot.status.level == DiagnosticStatus.OK)
    assert any("malformed" in key and int(value) > 0 for key, value in robot.values().items())


def test_no_valid_depth_is_not_ready_never_a_guess(graph: LiveGraph) -> None:
    graph.active()
    robot = graph.robot
    robot.depth[:] = np.nan
    assert robot.drive(lambda: robot.status and "points in the workspace" in robot.status.message)
    assert not any(robot.speeds)
    robot.depth[:] = 1.0
    assert robot.drive(lambda: robot.moving)


def test_bad_stamps_are_dropped_and_counted(graph: LiveGraph) -> None:
    graph.active()
    robot = graph.robot
    assert robot.drive(lambda: robot.moving)
    for _ in range(3):  # best effort: a stalled executor may miss one
        now = time.time_ns()
        for stamp in (0, now - 10 * 10**9, now + 10 * 10**9, now, now, now - 20_000_000):
            robot.send(stamp=stamp)
            time.sleep(0.05)
    causes = ("zero stamp", "stale", "future", "duplicate", "out of order")
    assert wait_for(
        lambda: all(any(f"image: {c}" in k or f"image: stamp in the {c}" in k for k in robot.values()) for c in causes)
    )
    assert robot.drive(lambda: robot.moving)  # the stamp of the future blocks nothing


def test_failing_policy_is_retried_a_bounded_number_of_times_until_reset(
    graph: LiveGraph, monkeypatch: pytest.MonkeyPatch
) -> None:
    graph.active()
    robot = graph.robot
    calls: list[int] = []

    def fail(self: Any, observation: Any) -> None:
        calls.append(1)
        raise RuntimeError("kernel broke")

    with monkeypatch.context() as patch:
        patch.setattr("mvla_pruned_ros.policy.runtime.PolicyRuntime.infer", fail)
        assert robot.drive(
            lambda: (
                robot.status and robot.status.level == DiagnosticStatus.ERROR and "kernel broke" in robot.status.message
            )
        )
        tried = len(calls)
        robot.drive(lambda: False, timeout_s=0.4)
        assert len(calls) == tried
        assert not any(robot.speeds)
    assert robot.reset.wait_for_service(5.0)
    future = robot.reset.call_async(Trigger.Request())
    assert robot.drive(lambda: future.done() and robot.moving)
    assert future.result().success


def test_out_of_device_memory_is_tried_once_more_with_fewer_tokens(
    graph: LiveGraph, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    from mvla_pruned_ros.policy.runtime import Inference, PolicyRuntime

    graph.active(keep_ratio=0.5)
    robot = graph.robot
    infer = PolicyRuntime.infer

    def tight(self: PolicyRuntime, observation: Any) -> Inference:
        if self.pruner.keep_ratio > 0.3:
            raise torch.cuda.OutOfMemoryError("out of memory")
        return infer(self, observation)

    assert robot.drive(lambda: len(robot.calls) > 2)
    monkeypatch.setattr(PolicyRuntime, "infer", tight)
    assert robot.drive(lambda: robot.calls[-1]["keep_ratio"] < 0.3)
    assert robot.drive(lambda: any("device memory" in key for key in robot.values()))
    assert robot.moving


def test_hung_policy_call_stops_the_arm_and_deactivation_is_bounded(
    graph: LiveGraph, monkeypatch: pytest.MonkeyPatch
) -> None:
    node = graph.active(max_observation_age_ms=300.0)
    robot = graph.robot
    assert robot.drive(lambda: robot.moving)
    release = threading.Event()
    monkeypatch.setattr("mvla_pruned_ros.policy.runtime.PolicyRuntime.infer", lambda *_: release.wait(10))
    robot.drive(lambda: False, timeout_s=0.8)
    assert not any(robot.speeds[-10:])
    start = time.monotonic()
    node.trigger_deactivate()
    assert time.monotonic() - start < 2.0
    release.set()


# Time


def test_stopped_clock_stops_the_arm(graph: LiveGraph) -> None:
    graph.active(use_sim_time=True)
    robot = graph.robot
    robot.time_ns = 5_000_000_000
    assert robot.drive(lambda: robot.moving)
    assert wait_for(lambda: not robot.moving, 3.0)
    assert robot.drive(lambda: robot.moving)


def test_clock_jumps_forget_the_episode_and_recover(graph: LiveGraph) -> None:
    graph.active(use_sim_time=True)
    robot = graph.robot
    for start in (50, 10, 500):  # first, back, far ahead
        robot.time_ns = start * 10**9
        robot.calls.clear()

        def calls(start: int = start) -> list[dict[str, Any]]:
            # What is told of a call that was under way when the clock jumped arrives after it.
            return [c for c in robot.calls if start * 10**9 <= c["stamp_ns"] < (start + 30) * 10**9]

        assert robot.drive(lambda: robot.moving and len(calls()) > 1), f"not moving at {start} s"
        first = calls()[0]
        assert first["image_kept"] == first["image_in"]  # the first call of an episode keeps everything


# Parameters and instructions


def test_parameters_are_all_or_nothing(graph: LiveGraph) -> None:
    node = graph.node()
    assert node.trigger_configure() == SUCCESS

    def refused(*parameters: Parameter) -> str:
        result = node.set_parameters_atomically(list(parameters))
        assert not result.successful and result.reason
        return result.reason

    ratio = Parameter("keep_ratio", value=0.25)
    for name, value in (
        ("keep_ratio", 0.0),
        ("keep_ratio", 1.5),
        ("keep_ratio", float("nan")),
        ("keep_ratio", "half"),
        ("method", "best"),
        ("command_rate_hz", -5.0),
        ("pruning.smoothing", 7.0),
        ("policy", "/elsewhere"),
        ("max_speed_m_s", float("nan")),
    ):
        other = Parameter("command_rate_hz", value=20.0) if name == "keep_ratio" else ratio
        reason = refused(other, Parameter(name, value=value))
        assert reason, name
    assert node.get_parameter("keep_ratio").value == 0.5
    assert node.get_parameter("command_rate_hz").value != 20.0
    assert node.set_parameters_atomically([ratio, Parameter("method", value="tri_stage")]).successful
    with pytest.raises(rclpy.exceptions.ParameterNotDeclaredException):
        node.set_parameters([Parameter("keep_ration", value=0.5)])


def test_parameters_change_between_calls_without_a_pause(graph: LiveGraph) -> None:
    node = graph.active(method="tri_stage", keep_ratio=1.0)
    robot = graph.robot
    assert robot.drive(lambda: len(robot.calls) > 2)
    assert node.set_parameters([Parameter("keep_ratio", value=0.25)])[0].successful
    assert robot.drive(lambda: robot.calls[-1]["keep_ratio"] < 0.3, 2.0)
    assert node.set_parameters([Parameter("command_rate_hz", value=20.0)])[0].successful
    robot.drive(lambda: False, timeout_s=0.3)
    before = len(robot.twists)
    robot.drive(lambda: False, timeout_s=1.0)
    assert 14 < len(robot.twists) - before < 27


def test_unknown_words_are_refused_and_the_old_instruction_stays(graph: LiveGraph) -> None:
    node = graph.active()
    robot = graph.robot
    robot.instruction.publish(String(data="juggle the puck"))
    assert wait_for(lambda: robot.status and "juggle" in robot.status.message)
    assert node.get_parameter("instruction").value == INSTRUCTION
    robot.instruction.publish(String(data="open the faucet"))
    assert wait_for(lambda: node.get_parameter("instruction").value == "open the faucet")


def test_without_an_instruction_the_arm_rests(graph: LiveGraph) -> None:
    graph.active(instruction="")
    robot = graph.robot
    robot.drive(lambda: False, timeout_s=0.5)
    assert not any(robot.speeds)
    assert wait_for(lambda: robot.status and "instruction" in robot.status.message)
    robot.instruction.publish(String(data=INSTRUCTION))
    assert robot.drive(lambda: robot.moving)


def test_misspelt_parameters_are_refused_at_start(graph: LiveGraph) -> None:
    with pytest.raises(ValueError, match="unknown parameter 'keep_ration': did you mean 'keep_ratio'"):
        graph.node(keep_ration=0.25)


# Life cycle


def test_deactivation_ends_in_a_safe_command_and_silence(graph: LiveGraph) -> None:
    node = graph.active()
    robot = graph.robot
    for _ in range(2):
        robot.twists.clear()
        assert robot.drive(lambda: robot.moving)
        assert node.trigger_deactivate() == SUCCESS
        assert wait_for(lambda: not robot.moving, 1.0)
        time.sleep(0.1)
        count = len(robot.twists)
        robot.drive(lambda: False, timeout_s=0.3)
        assert len(robot.twists) == count and robot.speeds[-1] == 0
        assert node.trigger_activate() == SUCCESS


def test_node_can_be_configured_again_after_clean_up(graph: LiveGraph) -> None:
    node = graph.active()
    robot = graph.robot
    assert node.trigger_deactivate() == SUCCESS
    assert node.trigger_cleanup() == SUCCESS
    assert node.trigger_configure() == SUCCESS
    assert node.trigger_activate() == SUCCESS
    assert robot.drive(lambda: robot.moving)


def test_missing_extrinsics_fail_configure_instead_of_being_guessed(graph: LiveGraph) -> None:
    node = graph.node(**{"extrinsics.translation": None, "extrinsics.rotation_xyzw": None})
    assert node.trigger_configure() == FAILURE


def test_cuda_asked_for_but_absent_fails_configure(graph: LiveGraph) -> None:
    import torch

    if torch.cuda.is_available():
        pytest.skip("there is a CUDA device")
    assert graph.node(device="cuda").trigger_configure() == FAILURE


def test_unreadable_weights_fail_configure_with_one_message(
    graph: LiveGraph, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    for file in graph.folder.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes()[: 100 if file.suffix == ".safetensors" else None])
    assert graph.node(policy=str(tmp_path)).trigger_configure() == FAILURE
    lines = [line for line in capfd.readouterr().err.splitlines() if "ERROR" in line]
    assert len(lines) == 1 and "model.safetensors" in lines[0]


@pytest.mark.parametrize(
    "name, value, message",
    [
        ("action_head.2.bias", None, "missing action_head.2.bias"),
        ("action_head.2.bias", torch.zeros(7), "action_head.2.bias has shape (7,), needs (4,)"),
        ("action_head.2.bias", torch.full((4,), float("nan")), "action_head.2.bias has values that are not finite"),
    ],
)
def test_malformed_checkpoint_fails_configure_with_one_message(
    graph: LiveGraph,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
    name: str,
    value: torch.Tensor | None,
    message: str,
) -> None:
    folder = Path(shutil.copytree(graph.folder, tmp_path / "policy"))
    weights = load_file(folder / "model.safetensors")
    weights.pop(name)
    save_file(weights | ({} if value is None else {name: value}), folder / "model.safetensors")
    assert message in refusal(graph.node(policy=str(folder)), capfd)


def test_upstream_policy_is_loaded_or_refused_by_the_same_node(
    graph: LiveGraph, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """Its actions are poses, not velocities; what is wrong with a folder is told as for any other policy."""
    run = write_run(tmp_path / "run")
    convert(run, tmp_path / "mla", overrides=run / "sizes.json")
    node = graph.node(policy=str(tmp_path / "mla"), command_interface="pose", instruction="")
    assert node.trigger_configure() == SUCCESS
    assert "sends cartesian_pose (step of the position, euler_xyz) as pose" in capfd.readouterr().err
    (tmp_path / "mla" / "config.json").write_text('{"architecture": "mla", "action_dim": 4}')
    assert "action_dim 4 and proprio_dim 7 must both be 7" in refusal(graph.node(policy=str(tmp_path / "mla")), capfd)


def process(folder: Path, camera: CameraModel, **parameters: str) -> subprocess.Popen:
    """The node as users start it."""
    pose = camera.base_from_camera
    values = {
        "policy": str(folder),
        "device": "cpu",
        "extrinsics.translation": str(pose[:3, 3].tolist()),
        "extrinsics.rotation_xyzw": str(Rotation.from_matrix(pose[:3, :3]).as_quat().tolist()),
        "instruction": INSTRUCTION,
        "discovery_wait_ms": "0.0",
    } | parameters
    arguments = [part for name, value in values.items() for part in ("-p", f"{name}:={value}")]
    return subprocess.Popen(
        [sys.executable, "-m", "mvla_pruned_ros.node.executable", "--ros-args", *arguments],
        stderr=subprocess.PIPE,
        text=True,
        env=dict(os.environ),
    )


def test_missing_checkpoint_fails_configure_with_one_message(camera: Callable[..., CameraModel]) -> None:
    child = process(Path("/nowhere"), camera(SIZE, SIZE))
    error = child.communicate(timeout=30)[1]
    assert child.returncode == 1
    assert error.count("/nowhere") == 1 and "Traceback" not in error, error


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signals_end_in_one_safe_command_and_exit_code_0(graph: LiveGraph, number: int) -> None:
    child = process(graph.folder, graph.camera)
    robot = graph.robot
    try:
        assert robot.drive(lambda: robot.moving, 30.0)
        start = time.monotonic()
        child.send_signal(number)
        assert child.wait(5.0) == 0, child.stderr.read() if child.stderr else ""
        assert time.monotonic() - start < 2.0
        assert wait_for(lambda: not robot.moving, 1.0)
    finally:
        child.kill()
