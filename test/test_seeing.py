"""Layouts and configurations that are shipped: they parse, and name only what the node or the annotated bag has."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from mvla_pruned_ros.bags.reader import STORE
from mvla_pruned_ros.replay.annotated import TOPICS as ANNOTATED

ROOT = Path(__file__).parent.parent
SCRIPT = "/studio_script/"


@pytest.fixture(scope="module")
def topics() -> dict[str, str]:
    """Topic -> type of a policy node of either cloud source, as the graph knows them."""
    pytest.importorskip("rclpy", reason="ROS is neither sourced nor installed as wheels")
    import rclpy
    from rclpy.context import Context
    from rclpy.parameter import Parameter

    from mvla_pruned_ros.node.policy_node import PolicyNode

    found: dict[str, str] = {}
    context = Context()
    rclpy.init(context=context)
    try:
        for source in ("depth", "points"):
            node = PolicyNode(context=context, parameter_overrides=[Parameter("cloud_source", value=source)])
            ends = (*node.publishers, *node.subscriptions)
            found |= {end.topic_name: _type_name(end.msg_type) for end in ends}
            node.destroy_node()
    finally:
        rclpy.try_shutdown(context=context)
    assert len(found) > 10
    return found


def _type_name(kind: Any) -> str:
    return f"{kind.__module__.split('.')[0]}/msg/{kind.__name__}"


@pytest.fixture(scope="module")
def layout() -> dict[str, Any]:
    return json.loads((ROOT / "config" / "foxglove_layout.json").read_text())


def test_rviz_shows_topics_of_the_node_with_their_types(topics: dict[str, str]) -> None:
    manager = yaml.safe_load((ROOT / "config" / "policy.rviz").read_text())["Visualization Manager"]
    shown = {"Image": "Image", "PointCloud2": "PointCloud2", "Pose": "PoseStamped"}
    displays = [d for d in manager["Displays"] if "Topic" in d]
    assert len(displays) >= 4 and manager["Global Options"]["Fixed Frame"] == "base"
    for display in displays:
        library, kind = display["Class"].split("/")
        assert library == "rviz_default_plugins"
        assert topics[display["Topic"]["Value"]].endswith(f"/{shown[kind]}"), display["Name"]
        assert display["Topic"]["Reliability Policy"] == "Best Effort"  # a reliable subscriber hears no sensor QoS
    (salience,) = (d for d in displays if d["Name"] == "Kept points by salience")
    assert salience["Channel Name"] == "salience" and salience["Color Transformer"] == "Intensity"


def panels_of(tree: Any, panels: dict[str, Any]) -> Iterator[str]:
    """Ids of the panels below a node of the layout, tabs included."""
    if isinstance(tree, dict):
        assert set(tree) == {"first", "second", "direction", "splitPercentage"}
        assert tree["direction"] in ("row", "column") and 0 < tree["splitPercentage"] < 100
        for part in (tree["first"], tree["second"]):
            yield from panels_of(part, panels)
        return
    yield tree
    for tab in panels[tree].get("tabs", ()):
        yield from panels_of(tab["layout"], panels)


def paths_of(panel: dict[str, Any]) -> Iterator[str]:
    """Topics, with the path of a field where there is one."""
    yield from (path["value"] for path in panel.get("paths", ()))
    yield from panel.get("topics", {})
    yield from (panel[name] for name in ("topicToRender", "topicPath") if name in panel)
    if image := panel.get("imageMode", {}).get("imageTopic"):
        yield image


def test_foxglove_places_every_panel_once(layout: dict[str, Any]) -> None:
    placed = list(panels_of(layout["layout"], layout["configById"]))
    assert sorted(placed) == sorted(layout["configById"])
    kinds = {name.split("!")[0] for name in placed}
    assert kinds == {"Tab", "Image", "3D", "DiagnosticSummary", "Plot", "RawMessages"}


def test_foxglove_shows_fields_that_there_are(layout: dict[str, Any], topics: dict[str, str]) -> None:
    from rosbags.typesys import get_typestore

    store = get_typestore(STORE)
    known = {**topics, **ANNOTATED}
    scripts = {script["sourceCode"] for script in layout["userNodes"].values()}
    computed = {}
    for script in scripts:
        (output,) = re.findall(r'output = "(.+)"', script)
        assert output.startswith(SCRIPT)
        computed[output] = set(re.findall(r"(\w+): number", script))
        assert set(json.loads(re.findall(r"inputs = (\[.+\])", script)[0])) <= set(known)
    paths = [path for panel in layout["configById"].values() for path in paths_of(panel)]
    assert len(paths) > 15
    for path in paths:
        topic, *fields = path.split(".")
        if topic in computed:
            assert len(fields) == 1 and fields[0] in computed[topic], path
            continue
        kind = known[topic]
        for field in fields:
            members = dict(store.get_msgdef(kind).fields)
            assert field in members, path
            kind = members[field][1] if isinstance(members[field][1], str) else ""


def test_colours_of_points_are_a_field_of_the_cloud(layout: dict[str, Any]) -> None:
    for panel in layout["configById"].values():
        for topic, shown in panel.get("topics", {}).items():
            if topic.endswith("kept_points"):
                assert shown["colorField"] == "salience" and shown["colorMode"] == "colormap"


def constant(path: Path, name: str) -> Any:
    """A literal of a launch file, which cannot be imported where there is no ROS installation."""
    (value,) = (
        node.value
        for node in ast.parse(path.read_text()).body
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name) and node.targets[0].id == name
    )
    return ast.literal_eval(value)


def test_franka_launch_file_connects_topics_of_the_node(topics: dict[str, str]) -> None:
    remappings = constant(ROOT / "launch" / "realsense_franka.launch.py", "REMAPPINGS")
    own = {name.replace("~/", "/policy/") for name in remappings}
    assert own <= set(topics)
    assert len(set(remappings.values())) == len(remappings) and all(t.startswith("/") for t in remappings.values())
    # What the node cannot do without is connected, each to something else than itself.
    assert own == {f"/policy/{n}" for n in ("image", "depth", "camera_info", "ee_pose", "gripper", "command/twist")}


def test_franka_parameters_are_the_node_s_and_refused_until_they_are_filled_in() -> None:
    pytest.importorskip("rclpy", reason="ROS is neither sourced nor installed as wheels")
    from mvla_pruned_ros.models import policy_folder
    from mvla_pruned_ros.node.parameters import SPECS, Settings
    from mvla_pruned_ros.observation.frames import pose_of

    path = ROOT / "config" / "realsense_franka.yaml"
    given = yaml.safe_load(path.read_text())["/**/policy"]["ros__parameters"]
    extrinsics = given.pop("extrinsics")
    given |= {f"extrinsics.{name}": value for name, value in extrinsics.items()}
    assert set(given) <= set(SPECS)
    settings = Settings.of({name: spec.default for name, spec in SPECS.items()} | given)
    assert settings["require_enable"] and settings["command_interface"] == "twist"
    assert settings["max_speed_m_s"] <= 0.1 and settings["camera_frame"] == "camera_color_optical_frame"
    with pytest.raises(ValueError, match="no policy 'SET_THIS'"):
        policy_folder(given["policy"])
    with pytest.raises(ValueError, match="are not set"):
        pose_of(extrinsics["translation"], extrinsics["rotation_xyzw"])
    assert "UNTESTED ON HARDWARE" in path.read_text()
