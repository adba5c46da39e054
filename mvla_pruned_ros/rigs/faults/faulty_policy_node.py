"""The policy node with a policy that fails when it is told to, for ``mvla faults``. Never start it on a robot.

``ros2 param set /policy fault "slow 0.3"`` and the like: see ``FAULTS``, several with ``;`` between them; with an empty
string the policy works again.
Everything else is the node as users run it, but for diagnostics that come more often.
"""

from __future__ import annotations

import dataclasses
import math
import os
import sys
import time
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from rclpy.lifecycle import LifecycleState, TransitionCallbackReturn
from rclpy.parameter import Parameter

from ...node import diagnostics, executable, policy_node
from ...policy.base import PolicyOutput
from ...pruning.types import Evidence

DIAGNOSTICS_PERIOD_S = 0.2  # so that a matrix of faults takes a minute
FAULTS = {
    "slow": "each call takes S seconds more",
    "hang": "a call does not return until the fault is over",
    "raise": "N calls raise RuntimeError",
    "out_of_memory": "N calls run out of device memory",
    "exit": "the thread that calls ends",
    "nan": "one action is NaN",
    "infinite": "one action is infinite",
    "fast": "actions are a thousand times as large",
    "wide": "actions have one value more than declared",
    "flat": "actions are one vector",
    "none": "the chunk is empty",
    "long": "actions go on, N times as many",
    "nan_evidence": "the feature norm of a token is NaN with 0, the attention to it with 1",
}


class FaultyPolicy:
    """A policy whose ``act`` fails as the parameter ``fault`` of the node says."""

    def __init__(self, policy: Any, node: FaultyPolicyNode) -> None:
        self._policy, self._node = policy, node

    def __getattr__(self, name: str) -> Any:
        return getattr(self._policy, name)

    def act(self, *args: Any) -> PolicyOutput:
        """As the policy's own, before or after the fault."""
        node, faults, start = self._node, self._node.faults, time.monotonic()
        timer = args[-1]
        with timer.stage("head"):  # so that a slow call is measured as one
            until = start + (math.inf if "hang" in faults else faults.get("slow", 0.0))
            while time.monotonic() < until and node.faults is faults:
                time.sleep(0.005)
        for kind in ("raise", "out_of_memory"):
            if node.failed < faults.get(kind, 0):
                node.failed += 1
                if kind == "raise":
                    raise RuntimeError("made to fail")
                raise torch.cuda.OutOfMemoryError("made to run out of memory")
        if "exit" in faults:
            node.faults = {}  # of one thread, not of the next
            raise SystemExit("made to end")
        output: PolicyOutput = self._policy.act(*args)
        actions = output.actions
        for kind, number in faults.items():
            actions = corrupted(actions, kind, number)
        evidence = corrupted_evidence(output.evidence, faults.get("nan_evidence"))
        return dataclasses.replace(output, actions=actions, evidence=evidence)


def corrupted(actions: np.ndarray, kind: str, number: float = 0) -> np.ndarray:
    """Actions as a fault makes them; those of other faults are left alone. Args: actions: (K, A)."""
    if kind in ("nan", "infinite"):
        actions = actions.copy()
        actions[len(actions) // 2, 1] = np.nan if kind == "nan" else np.inf
    elif kind == "fast":
        actions = actions * 1000
    elif kind == "wide":
        actions = np.concatenate([actions, actions[:, :1]], 1)
    elif kind == "flat":
        actions = actions.ravel()
    elif kind == "none":
        actions = actions[:0]
    elif kind == "long":
        actions = np.tile(actions, (int(number), 1))
    return actions


def corrupted_evidence(evidence: Evidence, which: float | None) -> Evidence:
    """Evidence with one NaN in it. Args: which: 0: among the norms, 1: in the attention; None: nowhere."""
    if which is None:
        return evidence
    name = ("norm", "attention")[int(which)]
    values = getattr(evidence, name).copy()
    values[len(values) // 2] = np.nan
    return dataclasses.replace(evidence, **{name: values})


class FaultyPolicyNode(policy_node.PolicyNode):
    """See the module. Attributes: faults: those in force. failed: calls that failed since they are."""

    def __init__(self, **options: Any) -> None:
        self.faults: dict[str, float] = {}
        self.failed = 0
        super().__init__(**options)
        self.declare_parameter("fault", "")
        self.add_post_set_parameters_callback(self._fault_set)

    def _fault_set(self, parameters: Sequence[Parameter]) -> None:
        for parameter in parameters:
            if parameter.name == "fault":
                words = [part.split() for part in parameter.value.split(";") if part]
                self.faults, self.failed = {w[0]: float(w[1]) if len(w) > 1 else 0.0 for w in words}, 0

    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        """As the node, then put the policy that fails in the place of the real one."""
        result = super().on_configure(state)
        if self._loaded is not None:
            self._loaded.runtime.policy = FaultyPolicy(self._loaded.policy, self)
        return result


def main() -> None:
    """Run until told to end."""
    policy_node.DIAGNOSTICS_PERIOD_S = DIAGNOSTICS_PERIOD_S
    diagnostics.REFUSED_LATELY_S = 2 * DIAGNOSTICS_PERIOD_S
    code = executable.run(kind=FaultyPolicyNode)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


if __name__ == "__main__":
    main()
