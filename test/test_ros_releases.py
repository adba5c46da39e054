"""Nodes with the rclpy at hand, and with one from which the calls were taken away that Humble does not have."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip("rclpy", reason="ROS is neither sourced nor installed as wheels")

import rclpy
from rcl_interfaces.msg import ParameterEvent, SetParametersResult
from rclpy.context import Context
from rclpy.exceptions import ParameterNotDeclaredException
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.parameter import Parameter

from mvla_pruned_ros.node.ros_releases import ParameterCallbacks, publisher_count
from mvla_pruned_ros.rigs.faults.faulty_policy_node import FaultyPolicyNode

HERE = Path(__file__).parent
# What speaks of parameters, and a start to commands, in the tests of the nodes.
ON_HUMBLE = (
    "test_ros_releases.py",
    "test_parameter_bounds.py",
    "test_preflight_live.py::test_healthy_robot_is_well_and_nothing_moves",
    "test_policy_node.py::test_commands_come_at_their_rate_whatever_the_camera_does",
    "test_policy_node.py::test_parameters_are_all_or_nothing",
    "test_policy_node.py::test_parameters_change_between_calls_without_a_pause",
    "test_policy_node.py::test_unknown_words_are_refused_and_the_old_instruction_stays",
)


class Listener(ParameterCallbacks, Node):
    """Doubles what is set, refuses more than 9, notes what took effect."""

    def __init__(self, **options: object) -> None:
        super().__init__("listener", **options)
        self.taken: list[dict[str, int]] = []
        self.declare_parameters("", [("a", 1), ("b", 1)])
        self.add_pre_set_parameters_callback(lambda some: [Parameter(p.name, value=2 * p.value) for p in some])
        self.add_on_set_parameters_callback(self._check)
        self.add_post_set_parameters_callback(lambda some: self.taken.append({p.name: p.value for p in some}))

    def _check(self, parameters: list[Parameter]) -> SetParametersResult:
        return SetParametersResult(successful=all(p.value <= 9 for p in parameters), reason="more than 9")


@pytest.fixture
def context() -> Iterator[Context]:
    context = Context()
    rclpy.init(context=context)
    yield context
    rclpy.shutdown(context=context)


def test_what_is_set_takes_effect_once_it_was_accepted_as_a_whole(context: Context) -> None:
    node = Listener(context=context)
    a, b, much = Parameter("a", value=2), Parameter("b", value=3), Parameter("b", value=5)
    result = node.set_parameters_atomically([a, much])
    assert (result.successful, result.reason, node.taken) == (False, "more than 9", [])
    assert node.get_parameter("a").value == 1
    assert node.set_parameters_atomically([a, b]).successful
    assert node.taken == [{"a": 4, "b": 6}]
    assert [result.successful for result in node.set_parameters([much, a])] == [False, True]
    assert node.taken[1:] == [{"a": 4}] and node.get_parameter("b").value == 6
    with pytest.raises(ParameterNotDeclaredException):
        node.set_parameters([Parameter("c", value=1)])
    node.destroy_node()


def test_publishers_of_a_subscription_are_counted(context: Context) -> None:
    node = rclpy.create_node("counter", context=context)
    subscription = node.create_subscription(ParameterEvent, "~/counted", print, 1)
    assert publisher_count(node, subscription) == 0
    node.create_publisher(ParameterEvent, "~/counted", 1)
    executor = SingleThreadedExecutor(context=context)
    executor.add_node(node)
    for _ in range(100):
        executor.spin_once(timeout_sec=0.02)
        if publisher_count(node, subscription):
            break
    assert publisher_count(node, subscription) == 1
    node.destroy_node()


def test_parameters_of_the_simulator_and_of_the_rig_are_taken(context: Context) -> None:
    pytest.importorskip("metaworld", reason="the simulator (Meta-World) is not installed")
    from mvla_pruned_ros.sim.node import SimulatorNode

    simulator = SimulatorNode(context=context)
    seed, factor = Parameter("seed", value=7), Parameter("real_time_factor", value=3)  # a whole number for a float
    assert not simulator.set_parameters_atomically([seed, Parameter("task", value="juggle")]).successful
    assert simulator._values["seed"] == 0
    assert simulator.set_parameters_atomically([seed, factor]).successful
    assert simulator._values["seed"] == 7 and simulator._values["real_time_factor"] == 3.0
    simulator.destroy_node()
    rig = FaultyPolicyNode(context=context)
    assert rig.set_parameters([Parameter("fault", value="slow 0.3; nan")])[0].successful
    assert rig.faults == {"slow": 0.3, "nan": 0.0}
    rig.destroy_node()


@pytest.mark.skipif("humble_rclpy" in sys.modules, reason="this is that run")
def test_nodes_work_with_what_humble_has() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "humble_rclpy", *ON_HUMBLE],
        cwd=HERE, env={**os.environ, "PYTHONPATH": os.pathsep.join((str(HERE), str(HERE.parent)))},
        capture_output=True, text=True, timeout=240,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]
