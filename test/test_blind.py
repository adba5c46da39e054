"""The floor of evaluations: a policy without visual tokens."""

from __future__ import annotations

import dataclasses
from itertools import product
from pathlib import Path

import numpy as np
import pytest
import torch

from mvla_pruned_ros.cli.main import main
from mvla_pruned_ros.policy.base import Policy
from mvla_pruned_ros.policy.mla.presets import MLA_PRESETS
from mvla_pruned_ros.policy.mla.random_weights import random_mla_policy
from mvla_pruned_ros.policy.mvla.policy import MVLAPolicy
from mvla_pruned_ros.policy.runtime import PolicyRuntime
from mvla_pruned_ros.pruning.methods import BLIND, EVALUATED, METHODS, make_pruner


def policy_of(kind: str, folder: Path) -> Policy:
    if kind == "mla":
        return random_mla_policy(MLA_PRESETS["mla-small"], "cpu", torch.float32)
    return MVLAPolicy.load(folder)


@pytest.mark.parametrize("kind", ["mvla", "mla"])
def test_it_acts_on_nothing_that_it_could_see(kind: str, tiny_policy_folder: Path) -> None:
    policy = policy_of(kind, tiny_policy_folder)
    seen = policy.example()
    (view,), middle = seen.views, seen.points.mean(0)
    negative = dataclasses.replace(view, image=255 - view.image)
    other = dataclasses.replace(seen, views=(negative,), points=middle + 0.5 * (seen.points - middle))
    answers: dict[str, list[np.ndarray]] = {BLIND: [], "none": []}
    for method, scene in product(answers, (seen, other)):
        runtime = PolicyRuntime(policy, make_pruner(method, 0.35))
        runtime.reset()
        inference = runtime.infer(scene)
        answers[method].append(inference.chunk.actions)
        assert inference.selection.keep_ratio == (0.0 if method == BLIND else 1.0)
    np.testing.assert_array_equal(*answers[BLIND])
    assert np.isfinite(answers[BLIND]).all()
    if kind == "mvla":  # random weights of the other give the ends of the range, whatever they see
        assert (answers["none"][0] != answers["none"][1]).any() and (answers["none"][0] != answers[BLIND][0]).any()


def test_only_evaluations_are_offered_it(capsys: pytest.CaptureFixture[str]) -> None:
    """The node's parameter and all other commands take ``METHODS``: a robot must not be driven blind."""
    assert BLIND not in METHODS and (*METHODS, BLIND) == EVALUATED
    assert main(["splices", "--method", BLIND]) == 2
    assert "unknown method 'blind'" in capsys.readouterr().err


def test_node_refuses_it() -> None:
    pytest.importorskip("rclpy", reason="ROS is neither sourced nor installed as wheels")
    from mvla_pruned_ros.node.parameters import SPECS

    with pytest.raises(ValueError, match="method must be one of none, .*, got 'blind'"):
        SPECS["method"].check("method", BLIND)
