"""Every parameter of the policy node at its bounds, beyond them, and of the wrong kind, through its real services."""

from __future__ import annotations

import math
import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("rclpy", reason="ROS is neither sourced nor installed as wheels")

import rclpy
from rcl_interfaces.msg import ParameterType, SetParametersResult
from rcl_interfaces.srv import SetParameters, SetParametersAtomically
from rclpy.context import Context
from rclpy.executors import MultiThreadedExecutor
from rclpy.lifecycle import TransitionCallbackReturn
from rclpy.parameter import Parameter

from mvla_pruned_ros.configuration.fields import Field
from mvla_pruned_ros.node import policy_node
from mvla_pruned_ros.node.environment import prepare_environment
from mvla_pruned_ros.node.parameters import SPECS
from mvla_pruned_ros.rigs.faults.peer import Peer
from mvla_pruned_ros.rigs.faults.session import INSTRUCTION
from mvla_pruned_ros.rigs.synthetic_robot import EXTRINSICS

LIVE = {name: spec for name, spec in SPECS.items() if not spec.fixed}
OTHER_TYPE = {float: "half", int: 0.5, bool: 1, str: 1.0, list: "here"}
DOMAIN = 1 + int(os.environ["ROS_DOMAIN_ID"]) % 100


class LiveNode:
    """An active policy node, and a client in a thread's reach."""

    def __init__(self, folder: Path) -> None:
        prepare_environment()
        self.context = Context()
        rclpy.init(context=self.context, domain_id=DOMAIN)
        given = {**EXTRINSICS, "policy": str(folder), "device": "cpu", "instruction": INSTRUCTION}
        overrides = [Parameter(name, value=value) for name, value in given.items()]
        self.node = policy_node.PolicyNode(parameter_overrides=overrides, context=self.context)
        self.client = rclpy.create_node("client", context=self.context)
        self.executor = MultiThreadedExecutor(num_threads=4, context=self.context)
        for node in (self.node, self.client):
            self.executor.add_node(node)
        threading.Thread(target=self.executor.spin, daemon=True).start()
        assert self.node.trigger_configure() == TransitionCallbackReturn.SUCCESS
        assert self.node.trigger_activate() == TransitionCallbackReturn.SUCCESS
        self._set = self.client.create_client(SetParameters, "/policy/set_parameters")
        self._set_atomically = self.client.create_client(SetParametersAtomically, "/policy/set_parameters_atomically")
        assert self._set.wait_for_service(10.0) and self._set_atomically.wait_for_service(10.0)

    def call(self, client: Any, request: Any) -> Any:
        done = threading.Event()
        future = client.call_async(request)
        future.add_done_callback(lambda _: done.set())
        assert done.wait(20.0), "the service does not answer"
        return future.result()

    def set(self, name: str, value: Any) -> SetParametersResult:
        request = SetParameters.Request(parameters=[Parameter(name, value=value).to_parameter_msg()])
        return self.call(self._set, request).results[0]

    def set_atomically(self, **values: Any) -> SetParametersResult:
        parameters = [Parameter(name, value=value).to_parameter_msg() for name, value in values.items()]
        return self.call(self._set_atomically, SetParametersAtomically.Request(parameters=parameters)).result

    @property
    def settings(self) -> dict[str, Any]:
        """What the worker reads, and what a client is told: both must say the same."""
        snapshot = self.node._parameters_.settings.values
        told = {name: self.node.get_parameter(name).value for name in SPECS}

        def plain(name: str, value: Any) -> Any:
            return list(value) if isinstance(SPECS[name].default, list) else value

        values = {name: plain(name, snapshot[name]) for name in SPECS}
        for name, value in values.items():
            # repr: unset extrinsics are NaN
            assert repr(value) == repr(plain(name, told[name])), f"{name}: worker {value}, clients {told[name]}"
        return values

    def close(self) -> None:
        self.node.close()
        self.executor.shutdown(timeout_sec=1.0)
        self.node.destroy_node()
        self.client.destroy_node()
        rclpy.try_shutdown(context=self.context)


@pytest.fixture(scope="module")
def live(tiny_policy_folder: Path) -> Iterator[LiveNode]:
    node = LiveNode(tiny_policy_folder)
    yield node
    node.close()


def bounds(spec: Field) -> tuple[Any, Any]:
    """Lowest and highest value, of the parameter's own type."""
    kind = type(spec.default)
    assert spec.low is not None and spec.high is not None
    return kind(spec.low), kind(spec.high)


def beyond(spec: Field) -> list[Any]:
    """Just outside the bounds, and far."""
    low, high = bounds(spec)
    if isinstance(spec.default, int):
        return [low - 1, high + 1, -(2**63), 2**63 - 1]
    return [math.nextafter(low, -math.inf), math.nextafter(high, math.inf), -1e308, 1e308]


def nonsense(spec: Field) -> list[Any]:
    """Values that no parameter like this may take."""
    default = spec.default
    if isinstance(default, bool):
        return []
    if isinstance(default, float):
        return [math.nan, math.inf, -math.inf]
    if isinstance(default, list):
        n = len(default)
        lengths = [] if spec.any_length else [[0.0] * (n - 1), [0.0] * (n + 1)]
        return [[math.nan] * max(1, n), [math.inf] * max(1, n), *lengths]
    if isinstance(default, str) and spec.choices:
        return ["", "no such word", spec.choices[0].upper()]
    return []


def test_bounds_are_taken_or_refused_with_a_reason_and_never_half(live: LiveNode) -> None:
    """The lowest value may be open (a ratio of 0): then the reason names the value."""
    ranged = {name: spec for name, spec in LIVE.items() if spec.low is not None and not isinstance(spec.default, bool)}
    assert len(ranged) > 10
    for name, spec in ranged.items():
        taken = 0
        for value in bounds(spec):
            before = live.settings
            result = live.set(name, value)
            expected = before | ({name: value} if result.successful else {})
            assert live.settings == expected, name
            assert result.successful or str(value) in result.reason, (name, value, result.reason)
            taken += result.successful
        assert taken >= 1, name
        assert live.set(name, spec.default).successful


@pytest.mark.parametrize("atomically", [False, True])
def test_values_beyond_the_bounds_or_without_sense_change_nothing(live: LiveNode, atomically: bool) -> None:
    for name, spec in LIVE.items():
        wrong = nonsense(spec)
        if spec.low is not None and not isinstance(spec.default, bool):
            wrong += beyond(spec)
        for value in wrong:
            before = live.settings
            # In an atomic set a good change comes first: it must not be taken alone.
            other = "slow_policy_ms" if name != "slow_policy_ms" else "sync_tolerance_ms"
            result = live.set_atomically(**{other: 77.0, name: value}) if atomically else live.set(name, value)
            assert not result.successful and name in result.reason, (name, value, result.reason)
            assert live.settings == before, (name, value)


def test_values_of_another_type_change_nothing(live: LiveNode) -> None:
    for name, spec in LIVE.items():
        before = live.settings
        result = live.set(name, OTHER_TYPE[type(spec.default)])
        assert not result.successful and result.reason, name
        assert live.settings == before, name


def test_unset_parameters_change_nothing(live: LiveNode) -> None:
    for name in SPECS:
        before = live.settings
        message = Parameter(name, Parameter.Type.NOT_SET).to_parameter_msg()
        assert message.value.type == ParameterType.PARAMETER_NOT_SET
        result = live.call(live._set, SetParameters.Request(parameters=[message])).results[0]
        assert not result.successful, name
        assert live.settings == before, name


def test_what_is_fixed_at_start_stays(live: LiveNode) -> None:
    for name, spec in SPECS.items():
        if spec.fixed:
            before = live.settings
            value = before[name]
            result = live.set(name, list(value) if isinstance(spec.default, list) else value)
            assert not result.successful and result.reason, name
            assert live.settings == before, name


def test_words_that_are_allowed_are_taken(live: LiveNode) -> None:
    for name, spec in LIVE.items():
        for word in spec.choices:
            assert live.set(name, word).successful, (name, word)
            assert live.settings[name] == word
        if spec.choices:
            live.set(name, spec.default)
    for value in (True, False):
        for name, spec in LIVE.items():
            if isinstance(spec.default, bool):
                assert live.set(name, value).successful, name


def test_corners_of_the_workspace_have_to_be_in_order(live: LiveNode) -> None:
    before = live.settings
    result = live.set("workspace_lower", [20.0, 0.0, 0.0])
    assert not result.successful and "workspace_lower" in result.reason
    assert live.settings == before
    both = {"workspace_lower": [20.0, 0.0, 0.0], "workspace_upper": [30.0, 1.0, 1.0]}
    assert live.set_atomically(**both).successful  # together they make sense
    assert live.settings == before | both
    assert live.set_atomically(**{name: before[name] for name in both}).successful


def test_every_change_in_mid_inference_waits_for_the_end_of_the_call(
    live: LiveNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While a call is held, each live parameter is changed; the call must not see it, the next must."""
    from mvla_pruned_ros.policy.runtime import PolicyRuntime
    from mvla_pruned_ros.rigs.graph import Graph

    infer = PolicyRuntime.infer
    inside, release, pruners = threading.Event(), threading.Event(), []

    def held(self: PolicyRuntime, observation: Any) -> Any:
        begun = (self.pruner.name, self.pruner.keep_ratio, getattr(self.pruner, "config", None))
        inside.set()
        assert release.wait(20.0)
        pruners.append((begun, (self.pruner.name, self.pruner.keep_ratio, getattr(self.pruner, "config", None))))
        return infer(self, observation)

    monkeypatch.setattr(PolicyRuntime, "infer", held)
    with Graph("robot", DOMAIN) as graph:
        peer = Peer(graph, "policy", ("camera_info", "ee_pose", "gripper", "depth", "image"))

        def drive(done: Any, what: str) -> None:
            until = time.monotonic() + 20.0
            while not done():
                assert time.monotonic() < until, what
                peer.step()

        drive(inside.is_set, "a call")
        for name, spec in LIVE.items():
            value: Any = spec.default
            if isinstance(spec.default, bool):
                value = not spec.default
            elif spec.low is not None:
                low, high = bounds(spec)
                value = type(spec.default)(low + (high - low) * 0.5)
            elif spec.choices:
                value = next(word for word in spec.choices if word not in ("none", live.settings[name]))
            elif name == "instruction":
                value = "open the faucet"
            assert live.set(name, value).successful, (name, value)
            assert live.settings[name] == value
        assert not pruners  # the call is still under way
        release.set()
        drive(lambda: len(pruners) >= 2, "a call after it")
    first, second = pruners[:2]
    assert first[0] == first[1], "changed under a call"
    assert second[0] == second[1] and second[0] != first[0]
    assert second[0][1] == live.settings["keep_ratio"]
