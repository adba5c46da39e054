"""Signals in every state of the life cycle: the node ends soon, quietly and with one safe command if any.

A safe command is sent where outputs were on. A node that is not active has told the robot nothing since it was
deactivated, or ever, and its deactivation ended in a safe command: it says nothing at the end either.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("rclpy", reason="ROS is neither sourced nor installed as wheels")

from geometry_msgs.msg import TwistStamped
from lifecycle_msgs.msg import State, Transition
from lifecycle_msgs.srv import ChangeState, GetState
from machine_speed import slower

from mvla_pruned_ros.rigs.child_process import parameter_arguments
from mvla_pruned_ros.rigs.faults.session import INSTRUCTION
from mvla_pruned_ros.rigs.graph import Graph
from mvla_pruned_ros.rigs.synthetic_robot import EXTRINSICS

EXIT_S = 2.0
BUSY_S = 1.0  # a busy computer
SIGNALS = pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=lambda n: n.name)
# Forked from one server that has loaded the libraries: a node is there at once, and is a process as any other.
PROCESSES = multiprocessing.get_context("forkserver")
PROCESSES.set_forkserver_preload(["mvla_pruned_ros.node.executable"])


def node_process(arguments: list[str], domain: str, log: str, hold: str) -> None:
    """The child: the executable's own main. hold: what of configure, load or warm_up, takes half a minute;
    nohup: SIGHUP is ignored; thread: one of the node's threads fails as soon as there is a file log.fail."""
    os.environ["ROS_DOMAIN_ID"] = domain
    descriptor = os.open(log, os.O_WRONLY | os.O_CREAT)
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    from mvla_pruned_ros.node import executable, loading, policy_node

    if hold == "nohup":
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
    elif hold == "thread":
        activate = policy_node.PolicyNode.on_activate

        def fail() -> None:
            while not Path(f"{log}.fail").exists():
                time.sleep(0.01)
            raise RuntimeError("made to fail")

        def activate_and_fail(node: Any, state: Any) -> Any:
            threading.Thread(target=fail).start()
            return activate(node, state)

        policy_node.PolicyNode.on_activate = activate_and_fail  # type: ignore[method-assign]
    elif hold:
        owner = loading.PolicySource if hold == "load" else loading
        slow = getattr(owner, hold)

        def held(*args: Any, **kwargs: Any) -> Any:
            print(f"in {hold}", flush=True)
            until = time.monotonic() + 30.0
            while time.monotonic() < until:
                time.sleep(0.01)
            return slow(*args, **kwargs)

        setattr(owner, hold, held)
    sys.argv = ["policy_node", "--ros-args", *arguments]
    executable.main()


class Child:
    """A policy node in a process of its own, and what is heard of it."""

    def __init__(self, graph: Graph, folder: Path, log: Path, hold: str = "", **parameters: Any) -> None:
        given = {**EXTRINSICS, "policy": str(folder), "device": "cpu", "instruction": INSTRUCTION}
        given |= {"discovery_wait_ms": 0.0, **parameters}
        domain = graph.environment["ROS_DOMAIN_ID"]
        self.graph, self.log_file = graph, log
        self.process = PROCESSES.Process(
            target=node_process, args=(parameter_arguments(given), domain, str(log), hold), daemon=True
        )
        self.twists: list[TwistStamped] = []
        self._subscription = graph.node.create_subscription(
            TwistStamped, "/policy/command/twist", lambda m: self.twists.append(m), 100
        )
        self._change = graph.node.create_client(ChangeState, "/policy/change_state")
        self._get = graph.node.create_client(GetState, "/policy/get_state")
        self.process.start()

    def wait(self, done: Callable[[], Any], what: str, timeout_s: float = 60.0) -> None:
        until = time.monotonic() + timeout_s
        while not done():
            assert self.process.is_alive(), f"ended while waiting for {what}:\n{self.log()}"
            assert time.monotonic() < until, f"waited for {what}:\n{self.log()}"
            self.graph.spin_once(0.02)

    def log(self) -> str:
        return self.log_file.read_text() if self.log_file.exists() else ""

    def call(self, client: Any, request: Any) -> Any:
        self.wait(client.service_is_ready, client.srv_name)
        future = client.call_async(request)
        self.wait(future.done, client.srv_name)
        return future.result()

    def meet(self) -> None:
        """Until the node answers: a request may go out before the way back of its answer is known."""

        def answered() -> bool:
            future, until = self._get.call_async(GetState.Request()), time.monotonic() + 1.0
            self.wait(lambda: future.done() or time.monotonic() > until, "an answer")
            return bool(future.done())

        self.wait(self._get.service_is_ready, "the node")
        self.wait(self._change.service_is_ready, "the node")
        self.wait(answered, "an answer")

    def go(self, *transitions: int) -> None:
        self.meet()
        for number in transitions:
            assert self.call(self._change, ChangeState.Request(transition=Transition(id=number))).success, self.log()

    def state(self) -> int:
        self.meet()
        return self.call(self._get, GetState.Request()).current_state.id

    def listen_to_the_end(self) -> None:
        """Until the process has ended, and a little longer: what it said last may still be on its way."""
        until = time.monotonic() + 60.0
        while self.process.is_alive() and time.monotonic() < until:
            self.graph.spin_once(0.02)
        until = time.monotonic() + 0.3
        while time.monotonic() < until:
            self.graph.spin_once(0.02)

    def end(self, number: int) -> list[TwistStamped]:
        """Send the signal; what is heard from then on. The node must end in time with code 0."""
        self.twists.clear()
        start = time.monotonic()
        assert self.process.pid is not None
        os.kill(self.process.pid, number)
        while self.process.is_alive() and time.monotonic() - start < 20.0:
            self.graph.spin_once(0.01)
        took = time.monotonic() - start
        self.listen_to_the_end()
        assert self.process.exitcode == 0, self.log()
        assert took < (EXIT_S + BUSY_S) * slower(), f"{took:.1f} s\n{self.log()}"
        assert "Traceback" not in self.log(), self.log()
        return self.twists

    def close(self) -> None:
        with contextlib.suppress(ValueError):
            self.process.kill()
            self.process.join(5.0)
        self.graph.node.destroy_subscription(self._subscription)


@pytest.fixture(scope="module")
def graph() -> Iterator[Graph]:
    with Graph("observer", 1 + (int(os.environ["ROS_DOMAIN_ID"]) + 1) % 100) as graph:
        yield graph


@pytest.fixture
def start(graph: Graph, tiny_policy_folder: Path, tmp_path: Path) -> Iterator[Callable[..., Child]]:
    children: list[Child] = []

    def start(**options: Any) -> Child:
        children.append(Child(graph, tiny_policy_folder, tmp_path / f"{len(children)}.log", **options))
        return children[-1]

    yield start
    for child in children:
        child.close()


def still(twists: list[TwistStamped]) -> bool:
    """All of them are safe commands."""
    return all((t.twist.linear.x, t.twist.linear.y, t.twist.linear.z) == (0.0, 0.0, 0.0) for t in twists)


@SIGNALS
def test_unconfigured_node_ends_and_says_nothing(start: Callable[..., Child], number: int) -> None:
    child = start(autostart=False)
    assert child.state() == State.PRIMARY_STATE_UNCONFIGURED
    assert child.end(number) == []


@SIGNALS
def test_inactive_node_ends_and_says_nothing(start: Callable[..., Child], number: int) -> None:
    child = start(autostart=False)
    child.go(Transition.TRANSITION_CONFIGURE)
    assert child.state() == State.PRIMARY_STATE_INACTIVE
    assert child.end(number) == []


@SIGNALS
def test_active_node_ends_in_one_safe_command(start: Callable[..., Child], number: int) -> None:
    child = start(command_rate_hz=2.0)  # slow, so that the one at the end is told from those of the timer
    child.wait(lambda: len(child.twists) > 1, "commands")
    assert child.state() == State.PRIMARY_STATE_ACTIVE
    count = len(child.twists)
    child.wait(lambda: len(child.twists) > count, "the next command")  # the one after it is half a second away
    heard = child.end(number)
    assert len(heard) == 1 and still(heard), heard


@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGQUIT], ids=lambda n: n.name)
def test_lost_terminal_ends_in_one_safe_command(start: Callable[..., Child], number: int) -> None:
    test_active_node_ends_in_one_safe_command(start, number)


def test_hangup_that_is_ignored_at_start_is_ignored(start: Callable[..., Child]) -> None:
    """As nohup has it: the node is to outlive the terminal."""
    child = start(hold="nohup", command_rate_hz=20.0)
    child.wait(lambda: len(child.twists) > 1, "commands")
    assert child.process.pid is not None
    os.kill(child.process.pid, signal.SIGHUP)
    count = len(child.twists)
    child.wait(lambda: len(child.twists) > count + 10, "more commands")
    assert still(child.end(signal.SIGINT)[-1:])


def test_thread_that_fails_ends_the_node_in_a_safe_command(start: Callable[..., Child]) -> None:
    child = start(hold="thread", command_rate_hz=20.0)
    child.wait(lambda: len(child.twists) > 1, "commands")
    Path(f"{child.log_file}.fail").touch()
    child.listen_to_the_end()
    assert child.process.exitcode == 1 and "made to fail" in child.log()
    assert still(child.twists[-1:])


@SIGNALS
def test_node_that_was_deactivated_ends_and_says_nothing_more(start: Callable[..., Child], number: int) -> None:
    child = start(command_rate_hz=20.0)
    child.wait(lambda: len(child.twists) > 1, "commands")
    child.go(Transition.TRANSITION_DEACTIVATE)
    assert child.state() == State.PRIMARY_STATE_INACTIVE
    until = time.monotonic() + 0.2
    child.wait(lambda: time.monotonic() > until, "silence")
    assert still(child.twists[-1:])
    assert child.end(number) == []


@SIGNALS
def test_finalized_node_ends_and_says_nothing(start: Callable[..., Child], number: int) -> None:
    child = start(autostart=False)
    child.go(Transition.TRANSITION_UNCONFIGURED_SHUTDOWN)
    assert child.state() == State.PRIMARY_STATE_FINALIZED
    assert child.end(number) == []


@pytest.mark.parametrize("phase", ["load", "warm_up"])
@SIGNALS
def test_node_ends_while_it_is_being_configured(start: Callable[..., Child], number: int, phase: str) -> None:
    child = start(hold=phase)
    child.wait(lambda: f"in {phase}" in child.log(), phase)
    assert child.end(number) == []


@SIGNALS
def test_node_ends_while_a_lifecycle_manager_has_it_configured(start: Callable[..., Child], number: int) -> None:
    child = start(hold="warm_up", autostart=False)
    request = ChangeState.Request(transition=Transition(id=Transition.TRANSITION_CONFIGURE))
    child.meet()
    child._change.call_async(request)
    child.wait(lambda: "in warm_up" in child.log(), "warm_up")
    assert child.end(number) == []


def test_a_second_signal_does_not_disturb_the_end(start: Callable[..., Child]) -> None:
    child = start(command_rate_hz=2.0)
    child.wait(lambda: len(child.twists) > 1, "commands")
    assert child.process.pid is not None
    os.kill(child.process.pid, signal.SIGINT)
    assert still(child.end(signal.SIGTERM))
