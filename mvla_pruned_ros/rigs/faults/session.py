"""A live policy node in a process of its own, brought to health before each fault."""

from __future__ import annotations

import contextlib
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState
from rcl_interfaces.msg import Parameter as ParameterMessage
from rcl_interfaces.msg import SetParametersResult
from rcl_interfaces.srv import GetParameters, SetParameters, SetParametersAtomically
from rclpy.parameter import Parameter
from std_srvs.srv import SetBool, Trigger

from ...models import policy_folder
from ..child_process import ChildFailedError, ChildNode
from ..graph import Graph
from ..synthetic_robot import EXTRINSICS
from ..whole_arm import VIEWS
from ..whole_arm_policy import save_whole_arm_policy
from .peer import Peer

INSTRUCTION = "push the puck to the goal"
READY_S = 180.0  # a cold start of several nodes on a busy computer
HEALTHY_S = 30.0
CALL_S = 30.0
SETUPS: dict[str, dict[str, Any]] = {  # what differs from the node's defaults, by the way it is set up
    "depth": {},
    "points": {
        "cloud_source": "points",
        "image_transport": "compressed",
        "qos_overrides./policy_points/gripper.subscription.reliability": "reliable",
    },
    "simulated time": {"use_sim_time": True},
    "pose": {"command_interface": "pose"},
    # With a policy of its own, of random weights, that takes orientation and joints, too.
    "two views": {**VIEWS, "hand_frames": [""]},
    "lifecycle": {"autostart": False},
}
NODE = f"{__package__}.faulty_policy_node"
DEFAULTS: dict[str, Any] = {  # what faults may change, and what it is set back to
    # Chunks of 0.6 s: what stops the arm is the age of what was seen, and not the end of a chunk.
    "fault": "long 3",
    "keep_ratio": 0.5,
    "method": "tri_stage",
    "command_rate_hz": 40.0,
    "max_observation_age_ms": 500.0,
    "max_speed_m_s": 0.25,
    "instruction": INSTRUCTION,
    "sync_tolerance_ms": 60.0,
    "slow_policy_ms": 1000.0,  # a busy computer is no fault of the node
}


class NodeFailedError(ChildFailedError):
    """The node is not as it should be before a fault, or does not come back after one."""


class Session:
    """One policy node and its ``Peer``.

    Attributes:
        graph, child, peer: see their classes. setup: of ``SETUPS``. name: of the node.
        policy_folder: where the nodes of setups ``lifecycle`` (a copy, to be corrupted) and ``two views`` read theirs.
    """

    def __init__(self, graph: Graph, folder: Path, setup: str, policy: str, module: str | None = None) -> None:
        """Starts the node and does not wait for it. Args: folder: for its log. policy: folder or shipped name.
        module: what to run; None: the node with a policy that can fail."""
        self.graph, self.setup = graph, setup
        self.name = f"policy_{setup.replace(' ', '_')}"
        self.policy_folder = folder / "policy"
        if setup == "lifecycle":
            shutil.copytree(policy_folder(policy), self.policy_folder)
            policy = str(self.policy_folder)
        if setup == "two views":
            policy = str(save_whole_arm_policy(self.policy_folder, INSTRUCTION))
        parameters = {**EXTRINSICS, "policy": policy, "device": "cpu", "instruction": INSTRUCTION,
                      "discovery_wait_ms": 0.0, **SETUPS[setup]}  # fmt: skip
        self._folder, self._log = folder, folder / f"{self.name}.log"
        pictures = ("points", "image/compressed") if setup == "points" else ("depth", "image")
        more = ("joint_states", "image_1_camera_info", "image_1") if setup == "two views" else ()
        streams = ("camera_info", "ee_pose", "gripper", *more, *pictures)
        interface = parameters.get("command_interface", "twist")
        self.peer = Peer(graph, self.name, streams, setup == "simulated time", interface)
        module, self._parameters = module or NODE, parameters
        remaps = {"__node": self.name}
        self.child = ChildNode(f"policy node ({setup})", module, self._log, parameters, remaps, graph.environment)

    def another(
        self, name: str, remaps: dict[str, str], parameter_files: tuple[Path, ...] = (), **parameters: Any
    ) -> ChildNode:
        """Start one more node like this one; the caller ends it. parameters: that differ."""
        remaps, environment = {"__node": name, **remaps}, self.graph.environment
        log, parameters = self._folder / f"{name}.log", self._parameters | parameters
        return ChildNode(name, NODE, log, parameters, remaps, environment, parameter_files)

    # --- waiting ------------------------------------------------------------------------------------------------

    def drive(self, until: Callable[[], Any], timeout_s: float = 5.0, **send: Any) -> bool:
        """Send frames until something holds; False when it does not within the time. send: see ``Peer.send``."""
        end = time.monotonic() + timeout_s
        while not until():
            self.child.check()
            if time.monotonic() > end:
                return False
            self.peer.step(**send)
        return True

    def drive_for(self, seconds: float, **send: Any) -> None:
        """Send frames for a while. send: see ``Peer.send``."""
        self.drive(lambda: False, seconds, **send)

    def call(self, client: Any, request: Any, silent: bool = False, **send: Any) -> Any:
        """Answer of a service, while frames go on (silent: while nothing is sent)."""
        if not client.service_is_ready() and not self.graph.spin_until(client.service_is_ready, CALL_S):
            raise NodeFailedError(f"service {client.srv_name} is not there")
        future = client.call_async(request)
        if not (self.graph.spin_until(future.done, CALL_S) if silent else self.drive(future.done, CALL_S, **send)):
            raise NodeFailedError(f"service {client.srv_name} does not answer")
        return future.result()

    # --- services -----------------------------------------------------------------------------------------------

    def set(self, values: dict[str, Any], **send: Any) -> list[SetParametersResult]:
        """Set parameters, each for itself."""
        parameters = [Parameter(name, value=value).to_parameter_msg() for name, value in values.items()]
        return list(self.call(self.peer.set_parameters, SetParameters.Request(parameters=parameters), **send).results)

    def set_atomically(self, values: dict[str, Any]) -> SetParametersResult:
        """Set parameters together, all or none."""
        parameters = [Parameter(name, value=value).to_parameter_msg() for name, value in values.items()]
        return self.call(self.peer.set_atomically, SetParametersAtomically.Request(parameters=parameters)).result

    def get(self, *names: str) -> dict[str, Any]:
        """Values of parameters."""
        values = self.call(self.peer.get_parameters, GetParameters.Request(names=list(names))).values
        return {n: Parameter.from_parameter_msg(ParameterMessage(name=n, value=v)).value for n, v in zip(names, values)}

    def transition(self, number: int, silent: bool = False) -> bool:
        """Ask for a lifecycle transition (see ``lifecycle_msgs/Transition``); whether it was made."""
        request = ChangeState.Request(transition=Transition(id=number))
        return bool(self.call(self.peer.change_state, request, silent).success)

    def reset(self) -> None:
        """Call the node's ``~/reset``."""
        self.call(self.peer.reset, Trigger.Request())

    def enable(self, value: bool) -> SetBool.Response:
        """Call the node's ``~/enable``."""
        return self.call(self.peer.enable, SetBool.Request(data=value))

    @contextlib.contextmanager
    def fault(self, text: str) -> Iterator[None]:
        """Make the policy fail, see ``faulty_policy_node.FAULTS``, until the block is left."""
        self.set({"fault": text})
        try:
            yield
        finally:
            self.set({"fault": DEFAULTS["fault"]})

    # --- health -------------------------------------------------------------------------------------------------

    @property
    def healthy(self) -> bool:
        """The arm moves and the node has nothing to say."""
        return self.peer.moving and self.peer.level == "OK"

    def heal(self) -> None:
        """Set everything back and wait until the node is healthy.

        Raises:
            NodeFailedError: it does not become healthy.
        """
        peer = self.peer
        if self.setup == "lifecycle":
            if not self.graph.spin_until(peer.change_state.service_is_ready, READY_S):
                raise NodeFailedError(f"the node does not start:\n{self.child.tail()}")
            return
        if not self.drive(lambda: peer.statuses and peer.set_parameters.service_is_ready(), READY_S):
            raise NodeFailedError(f"the node does not start:\n{self.child.tail()}")
        if not peer.out:
            peer.connect()
        self.set(DEFAULTS)
        if peer.status.message.startswith("not active") and not self.drive(lambda: peer.level == "OK", 1.0):
            self.transition(Transition.TRANSITION_ACTIVATE)
        if "not enabled" in peer.status.message:
            self.enable(True)
        self.reset()
        seen = peer.statuses
        if not self.drive(lambda: self.healthy and peer.statuses > seen + 1, HEALTHY_S):
            raise NodeFailedError(
                f"not healthy after {HEALTHY_S:g} s: {'moving' if peer.moving else 'still'}, {peer.level}: "
                f"{peer.status.message}"
            )

    def log_lines(self) -> list[str]:
        """What the node has printed so far."""
        return self._log.read_text(errors="replace").splitlines()

    def end(self) -> None:
        """End the node and forget its topics."""
        self.child.end()
        self.peer.close()
