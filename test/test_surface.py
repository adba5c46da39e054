"""What users type and connect to, against data/surface.json: commands, options, parameters, topics, services.

A change here breaks somebody's launch file or script: make it on purpose, in the list and in the changelog.
"""

from __future__ import annotations

import argparse
import json
import re
from pathlib import Path
from typing import Any

import pytest

from mvla_pruned_ros.cli.main import COMMANDS, main

ROOT = Path(__file__).parent.parent
SURFACE = json.loads((Path(__file__).parent / "data" / "surface.json").read_text())
# What differs between the entries of ``topics`` of the policy node.
SETUPS: dict[str, dict[str, Any]] = {
    "policy": {},
    "policy, points": {
        "cloud_source": "points", "image_transport": "compressed", "extra_clouds": ["depth_1", "points_2"],
    },
    "policy, depth": {"depth_transport": "compressedDepth", "depth_registered": False},
    "policy, tf": {"ee_pose_source": "tf", "ee_frame": "tool0"},
    "policy, joints": {"command_interface": "joint_trajectory", "joint_names": ["a", "b"]},
    "policy, pose": {"command_interface": "pose"},
    "policy, numbers": {"command_interface": "multi_array"},
}  # fmt: skip
OF_EVERY_NODE = ("parameter", "rosout", "_state", "get_available", "transition", "type_description")


def test_executables() -> None:
    text = (ROOT / "setup.py").read_text()
    assert re.findall(r'f"(\w+) = \{NAME\}', text) == SURFACE["executables"]


@pytest.mark.parametrize("command", ["", *COMMANDS])
def test_options_of_a_command(command: str, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: dict[str, list[str]] = {}

    def look(parser: argparse.ArgumentParser, name: str) -> None:
        seen[name] = []
        for action in parser._actions:
            if isinstance(action, argparse._SubParsersAction):
                for word, sub in action.choices.items():
                    look(sub, f"{name} {word}")
            elif not isinstance(action, argparse._HelpAction):
                seen[name].append("/".join(action.option_strings) or action.dest)

    def parse(parser: argparse.ArgumentParser, *_: object) -> None:
        look(parser, "mvla")
        raise KeyboardInterrupt

    monkeypatch.setattr(argparse.ArgumentParser, "parse_args", parse)
    with pytest.raises(KeyboardInterrupt):
        main([command] if command else [])
    name = f"mvla {command}".strip()
    assert sorted(seen[name]) == SURFACE["commands"][name]


def parameters_of(node: Any) -> dict[str, list[Any]]:
    """Type, default, read only, words allowed and bounds of each."""
    found = {}
    for name in node._parameters:
        if name.startswith("qos_overrides."):  # one for each topic of ``topics``, under its full name
            continue
        about, value = node.describe_parameter(name), node.get_parameter(name).value
        bounds = [[r.from_value, r.to_value] for r in (*about.floating_point_range, *about.integer_range)]
        found[name] = [type(value).__name__, repr(value), about.read_only, about.additional_constraints, bounds]
    return found


def ends_of(node: Any, name: str) -> dict[str, list[str]]:
    """Topics and services of a node with their types, as if it were called ``name``."""
    own = node.get_name(), node.get_namespace()
    found = {
        "publishers": node.get_publisher_names_and_types_by_node(*own),
        "subscriptions": node.get_subscriber_names_and_types_by_node(*own),
        "services": node.get_service_names_and_types_by_node(*own),
    }
    return {
        kind: sorted(
            f"{topic} {types[0]}".replace(f"/{own[0]}/", f"/{name}/")
            for topic, types in ends
            if not any(word in topic for word in OF_EVERY_NODE)
        )
        for kind, ends in found.items()
    }


@pytest.mark.parametrize("setup", [*SETUPS, "simulator"])
def test_parameters_topics_and_services(setup: str) -> None:
    pytest.importorskip("rclpy", reason="ROS is neither sourced nor installed as wheels")
    if setup == "simulator":
        pytest.importorskip("metaworld", reason="the simulator (Meta-World) is not installed")
    import time

    import rclpy
    from rclpy.parameter import Parameter

    # A name of its own: the graph remembers the topics of the node before for a while.
    kind = setup.split(",")[0]
    own = f"surface_{[*SETUPS, kind].index(setup)}"
    context, arguments = rclpy.Context(), ["--ros-args", "-r", f"__node:={own}"]
    rclpy.init(context=context)
    try:
        if setup == "simulator":
            from mvla_pruned_ros.sim.node import SimulatorNode

            node: Any = SimulatorNode(context=context, cli_args=arguments)
        else:
            from mvla_pruned_ros.node.policy_node import PolicyNode

            overrides = [Parameter(name, value=value) for name, value in SETUPS[setup].items()]
            node = PolicyNode(context=context, cli_args=arguments, parameter_overrides=overrides)
        until = time.monotonic() + 5.0
        while (ends := ends_of(node, kind)) != SURFACE["topics"][setup] and time.monotonic() < until:
            time.sleep(0.05)
        assert ends == SURFACE["topics"][setup]
        if setup in SURFACE["parameters"]:
            assert parameters_of(node) == SURFACE["parameters"][setup]
        node.destroy_node()
    finally:
        rclpy.shutdown(context=context)
