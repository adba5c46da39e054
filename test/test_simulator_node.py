"""The simulator node: its messages, its parameters, its time, and what it does with commands."""

from __future__ import annotations

import math
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

pytest.importorskip("rclpy", reason="ROS is neither sourced nor installed as wheels")
pytest.importorskip("metaworld", reason="the simulator (Meta-World) is not installed")

from sensor_msgs.msg import PointCloud2
from simulator_driver import MODULE, Driver, sensor_qos

from mvla_pruned_ros.geometry.clouds import depth_to_points
from mvla_pruned_ros.messages.calibration import camera_model
from mvla_pruned_ros.messages.decode import depth_to_metres, image_to_rgb, stamp_ns
from mvla_pruned_ros.node.parameters import PRUNING, SPECS, Settings
from mvla_pruned_ros.node.ros_messages import ENCODER
from mvla_pruned_ros.observation.builder import cloud_to_points
from mvla_pruned_ros.observation.frames import Frames
from mvla_pruned_ros.pruning.tri_stage.config import TriStageConfig
from mvla_pruned_ros.rigs.child_process import ChildNode, end_all
from mvla_pruned_ros.rigs.graph import Graph
from mvla_pruned_ros.sim.metaworld.viewpoint import CAMERA_FRAME, WIRING
from mvla_pruned_ros.sim.node import PARAMETERS
from mvla_pruned_ros.sim.pacing import Pacer
from mvla_pruned_ros.sim.sensors import organised_points
from mvla_pruned_ros.sim.wiring import BASE_FRAME
from mvla_pruned_ros.types import CameraModel

ROOT = Path(__file__).parent.parent


def parameters_of(file: str, node: str) -> dict[str, Any]:
    """Parameters of a node in a file of config/, nested names joined by dots."""

    def flat(tree: dict[str, Any], prefix: str = "") -> dict[str, Any]:
        out = {}
        for name, value in tree.items():
            out |= flat(value, f"{prefix}{name}.") if isinstance(value, dict) else {prefix + name: value}
        return out

    return flat(yaml.safe_load((ROOT / "config" / file).read_text())[f"/**/{node}"]["ros__parameters"])


def test_time_that_is_spent_on_drawing_is_not_made_up_for() -> None:
    pacer = Pacer(60.0, 0)
    pacer.restart()
    time.sleep(0.06)  # less than what a simulation that is late makes up for
    pacer.stood_still(0.06)
    pacer.stepped(True)
    began = time.monotonic()
    pacer.wait(0.05, 1.0, threading.Event())
    assert time.monotonic() - began > 0.03


def test_depth_and_cloud_messages_show_the_same_points(camera: Callable[..., CameraModel]) -> None:
    model = camera(64, 48)
    depth = np.random.default_rng(0).uniform(0.3, 2.0, (48, 64)).astype(np.float32)
    depth[:5] = 0
    stamp = 12_000_000_345
    message = ENCODER.depth(depth, stamp, CAMERA_FRAME)
    np.testing.assert_array_equal(depth_to_metres(message), depth)
    expected = depth_to_points(depth, model)
    cloud = ENCODER.cloud("xyz", organised_points(depth, model), stamp, CAMERA_FRAME)
    points = cloud_to_points(cloud, Frames(BASE_FRAME, CAMERA_FRAME, {CAMERA_FRAME: model.base_from_camera}))
    assert not cloud.is_dense and len(points) == 43 * 64
    np.testing.assert_allclose(points, expected, atol=2e-6)


def test_camera_info_leads_back_to_the_camera(camera: Callable[..., CameraModel]) -> None:
    model = camera(64, 48)
    message = ENCODER.camera_info(model, 1, CAMERA_FRAME)
    back = camera_model(message, 64, 48, model.base_from_camera)
    assert (back.fx, back.fy, back.cx, back.cy) == pytest.approx((model.fx, model.fy, model.cx, model.cy))


def test_demo_configuration_has_the_extrinsics_of_the_simulated_camera() -> None:
    values = parameters_of("demo.yaml", "policy")
    for name in ("extrinsics.translation", "extrinsics.rotation_xyzw"):
        assert values[name] == pytest.approx(WIRING.parameters()[name], abs=1e-6)


def test_robot_configuration_has_every_parameter_and_asks_for_the_extrinsics() -> None:
    values = parameters_of("robot.yaml", "policy")
    assert set(values) == {*(n for n in SPECS if not n.startswith(PRUNING)), "use_sim_time"}
    assert values["device"] == "cuda" and values["use_sim_time"] is False
    assert all(math.isnan(x) for x in values["extrinsics.translation"] + values["extrinsics.rotation_xyzw"])
    for name, value in values.items():
        if name in SPECS:
            assert type(value) is type(SPECS[name].default), name
    Settings.of({**{name: spec.default for name, spec in SPECS.items()}, **values})


def test_robot_configuration_explains_the_pruning_parameters_and_leaves_them_to_the_calibration() -> None:
    text = (ROOT / "config" / "robot.yaml").read_text()
    block = text[text.index("    # pruning:") :].replace("    # ", "")
    assert TriStageConfig(**yaml.safe_load(block)["pruning"]) == TriStageConfig()


def test_demo_configuration_names_parameters_that_exist_with_the_right_types() -> None:
    values = parameters_of("demo.yaml", "policy")
    assert set(values) <= {*SPECS, "use_sim_time"}
    Settings.of({name: values.get(name, spec.default) for name, spec in SPECS.items()})
    simulator = parameters_of("demo.yaml", "simulator")
    assert set(simulator) == set(PARAMETERS)
    for name, value in simulator.items():
        assert type(value) is type(PARAMETERS[name].default), name


@pytest.mark.parametrize(
    ("argument", "reason"),
    [("task:=juggle", "choose from button-press-topdown, push"), ("real_time_factor:=-1.0", "real_time_factor")],
)
def test_a_wrong_parameter_is_refused_at_start_in_one_line(argument: str, reason: str) -> None:
    command = [sys.executable, "-m", MODULE, "--ros-args", "-p", argument]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, cwd=ROOT)
    assert done.returncode == 2
    assert reason in done.stderr and "Traceback" not in done.stderr


@pytest.fixture(scope="module")
def driver(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Driver]:
    folder = tmp_path_factory.mktemp("simulator")
    with Graph("driver", int(os.environ["ROS_DOMAIN_ID"])) as graph:
        parameters = {"task": "push", "auto_reset": False, "image_size": 64, "max_steps": 400}
        child = ChildNode("simulator", MODULE, folder / "log", parameters, {}, graph.environment)
        try:
            driver = Driver(graph)
            driver.wait(lambda: driver.status and driver._reset.service_is_ready(), 60.0)
            driver.wait(lambda: driver.status["image_subscribers"] and driver.status["command_publishers"])
            yield driver
        finally:
            end_all([child])
    assert child.process.returncode == 0, child.tail()


def test_time_stands_still_until_the_first_reset(driver: Driver) -> None:
    driver.wait(lambda: len(driver.clock_ns) >= 3)
    assert set(driver.clock_ns) == {1_000_000_000}
    assert driver.status["state"] == "waiting" and driver.status["frames_sent"] == 0


def test_frames_come_at_their_rate_of_simulated_time_with_equal_stamps(driver: Driver) -> None:
    assert driver.reset().success
    driver.images.clear()
    driver.wait(lambda: len(driver.images) >= 6)
    stamps = [stamp_ns(m.header) for m in driver.images]
    assert set(np.diff(stamps)) == {50_000_000}
    assert driver.images[0].header.frame_id == CAMERA_FRAME
    assert image_to_rgb(driver.images[0]).shape == (64, 64, 3)


def test_a_command_is_held_and_times_out_in_simulated_time(driver: Driver) -> None:
    driver.reset()
    driver.spin(0.1)
    before = driver.poses[-1]
    driver.command((0.0, 0.0, -0.3))
    driver.spin(0.2)
    assert driver.poses[-1][2] < before[2] - 0.02
    driver.spin(0.3)  # the command is now older than 0.25 s, and the arm has come to rest
    rest = driver.poses[-1]
    driver.spin(0.2)
    assert np.linalg.norm(driver.poses[-1] - rest) < 0.01


def test_a_command_of_the_episode_before_does_not_move_the_arm(driver: Driver) -> None:
    driver.reset()
    driver.spin(0.1)
    start = driver.poses[-1]
    for _ in range(5):
        driver.command((0.0, 0.0, -0.3), stamp_ns=1_000_000_001)
        driver.spin(0.03)
    driver.spin(0.1)
    assert np.linalg.norm(driver.poses[-1] - start) < 0.02  # obeyed, 75 mm


def test_an_unknown_task_is_refused_with_the_list(driver: Driver) -> None:
    result = driver.set(task="juggle")
    assert not result.successful and "choose from button-press-topdown, push" in result.reason


def test_the_next_episode_takes_task_and_seed_and_time_goes_on(driver: Driver) -> None:
    assert driver.set(task="faucet-open", seed=7).successful
    before = driver.clock_ns[-1]
    answer = driver.reset()
    assert answer.success and "faucet-open, seed 7" in answer.message
    driver.spin(0.05)
    assert driver.status["task"] == "faucet-open" and driver.status["seed"] == 7
    assert min(np.diff(driver.clock_ns)) >= 0 and driver.clock_ns[-1] > before


def test_points_are_published_only_while_somebody_listens(driver: Driver) -> None:
    clouds: list[PointCloud2] = []
    driver.reset()
    subscription = driver.subscribe(PointCloud2, "/simulator/points", clouds.append, sensor_qos())
    driver.wait(lambda: clouds)
    driver.graph.node.destroy_subscription(subscription)
    assert clouds[0].header.frame_id == CAMERA_FRAME
    assert clouds[0].width == 64 and clouds[0].height == 64


def test_an_episode_without_success_ends_with_its_budget(driver: Driver) -> None:
    assert driver.set(max_steps=8, real_time_factor=0.0).successful
    driver.reset()
    driver.wait(lambda: driver.status["state"] == "waiting" and driver.status["step"] == 8)
    assert driver.status["success"] is False


def test_first_episode_waits_for_the_first_command(tmp_path: Path) -> None:
    """The policy takes longer to load than the robot, and time must not pass until it is there."""
    with Graph("driver", 1 + int(os.environ["ROS_DOMAIN_ID"]) % 100) as graph:
        parameters = {"task": "push", "wait_for_command": True, "image_size": 64}
        child = ChildNode("simulator", MODULE, tmp_path / "log", parameters, {}, graph.environment)
        try:
            driver = Driver(graph)
            driver.wait(lambda: driver.status and driver.status["command_publishers"], 60.0)
            driver.wait(lambda: len(driver.clock_ns) > 5)
            assert driver.status["state"] == "waiting" and set(driver.clock_ns) == {1_000_000_000}
            driver.command((0.0, 0.0, 0.0))
            driver.wait(lambda: driver.status["state"] == "running" and driver.clock_ns[-1] > 1_000_000_000)
        finally:
            end_all([child])
