"""Wheel and sdist, built with the setuptools at hand: complete, one wheel from both, and run without this folder."""

from __future__ import annotations

import importlib.metadata
import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

import pytest
from bags import write_bag
from conftest import make_observation

ROOT = Path(__file__).parent.parent
NAME = "mvla_pruned_ros"
VERSION = ElementTree.parse(ROOT / "package.xml").findtext("version")
SOURCES = (NAME, "config", "launch", "resource")
BESIDE = (
    "CHANGELOG.rst",
    "CITATION.cff",
    "LICENSE",
    "README.md",
    "package.xml",
    "pyproject.toml",
    "setup.cfg",
    "setup.py",
)
# The backend of projects whose pyproject.toml names none, as pip and build call it.
BUILD = "from setuptools.build_meta import __legacy__ as b; b.build_{}('dist')"
# Files that the package reads from where it is installed, by the code that reads them.
READ = """
import mvla_pruned_ros, mvla_pruned_ros.evaluation.splices.plot
from mvla_pruned_ros.node.environment import fast_dds_profile
print(mvla_pruned_ros.__file__, fast_dds_profile(), sep="\\n")
"""


@dataclass
class Built:
    """Distributions, and the wheel that was built from the sdist."""

    wheel: Path
    sdist: Path
    wheel_of_sdist: Path


def build(folder: Path, kind: str) -> Path:
    done = subprocess.run([sys.executable, "-c", BUILD.format(kind)], cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return next((folder / "dist").glob("*.whl" if kind == "wheel" else "*.tar.gz"))


def files_below(folder: Path) -> set[str]:
    """Names, from the root of the source tree, of what is no by-product."""
    return {
        str(path.relative_to(ROOT)) for path in folder.rglob("*") if path.is_file() and "__pycache__" not in path.parts
    }


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Built:
    """Of a copy of the source tree in which the package was used."""
    folder, unpacked = tmp_path_factory.mktemp("tree"), tmp_path_factory.mktemp("unpacked")
    for name in SOURCES:
        shutil.copytree(ROOT / name, folder / name)
    for name in (*BESIDE, "MANIFEST.in"):
        shutil.copy(ROOT / name, folder)
    used = folder / NAME / "models/__pycache__"
    used.mkdir(exist_ok=True)
    (used / "__init__.pyc").touch()
    (folder / "test").mkdir()
    (folder / "test/test_half.py").touch()
    sdist = build(folder, "sdist")
    with tarfile.open(sdist) as archive:
        archive.extractall(unpacked)
    return Built(build(folder, "wheel"), sdist, build(unpacked / f"{NAME}-{VERSION}", "wheel"))


def test_sdist_has_what_the_wheel_is_made_of(built: Built) -> None:
    with tarfile.open(built.sdist) as archive:
        names = {member.name.partition("/")[2] for member in archive.getmembers() if member.isfile()}
    wanted = set(BESIDE).union(*(files_below(ROOT / name) for name in SOURCES))
    assert wanted - names == set()
    others = {name for name in names - wanted if not name.startswith(f"{NAME}.egg-info/")}
    assert others == {"MANIFEST.in", "PKG-INFO"}


def test_wheel_has_what_is_installed_and_is_the_same_from_the_sdist(built: Built) -> None:
    with zipfile.ZipFile(built.wheel) as wheel, zipfile.ZipFile(built.wheel_of_sdist) as other:
        sums, sums_of_sdist = ({info.filename: info.CRC for info in w.infolist()} for w in (wheel, other))
    assert built.wheel.name == f"{NAME}-{VERSION}-py3-none-any.whl"
    assert sums == sums_of_sdist
    share = f"{NAME}-{VERSION}.data/data/share"
    wanted = files_below(ROOT / NAME) | {
        f"{share}/{NAME}/package.xml",
        f"{share}/ament_index/resource_index/packages/{NAME}",
        *(f"{share}/{NAME}/{name}" for folder in ("config", "launch") for name in files_below(ROOT / folder)),
    }
    assert {name for name in sums if ".dist-info/" not in name} == wanted
    assert any(name.endswith("LICENSE") for name in sums)


# Whoever looks for the module pip gets a distutils that setuptools refuses.
@pytest.mark.skipif(not list(importlib.metadata.distributions(name="pip")), reason="this environment has no pip")
def test_installed_wheel_runs_without_the_source_tree(built: Built, tmp_path: Path) -> None:
    target, elsewhere = tmp_path / "installed", tmp_path / "elsewhere"
    elsewhere.mkdir()
    write_bag(
        elsewhere / "bag",
        ["push the puck to the goal", *(make_observation(seed=i, stamp_ns=(20 + i) * 50_000_000) for i in range(3))],
    )

    def run(*command: object) -> str:
        done = subprocess.run(
            [str(word) for word in command], cwd=elsewhere, env={**os.environ, "PYTHONPATH": str(target)},
            capture_output=True, text=True, timeout=120,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    run(sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--no-index", "--target", target, built.wheel)
    mvla = target / "bin/mvla"
    assert run(mvla, "--version").strip() == f"mvla {VERSION}"
    assert "demo" in run(mvla, "--help") and "--keep" in run(mvla, "demo", "--help")
    places = run(sys.executable, "-c", READ).split()
    assert len(places) == 2 and all(place.startswith(str(target)) for place in places), places
    # A policy, its pruning and a page, all of them shipped files.
    run(mvla, "replay", "bag", "--policy", "small", "--keep", 0.35, "--out", "out")
    assert {"replay.json", "replay.html"} <= {path.name for path in (elsewhere / "out").iterdir()}
