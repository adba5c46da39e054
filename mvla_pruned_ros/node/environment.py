"""What must be in the environment before rclpy and torch start. Call it first thing in ``main``."""

from __future__ import annotations

import importlib.metadata
import importlib.resources
import os
import sys
from pathlib import Path

KILTED_RCLPY = 9  # the first major version of rclpy in ROS Kilted
LEAST_SHARED_MB = 64  # of shared memory: for this node and a camera driver
PROFILE_VARIABLES = ("FASTDDS_DEFAULT_PROFILES_FILE", "FASTRTPS_DEFAULT_PROFILES_FILE")


def prepare_environment() -> None:
    """Settings that only work before ``rclpy.init()`` and before torch is imported; what the user has set stays.

    - A Fast DDS profile with 32 MB of shared memory: with the default of 512 KB nearly all images are lost. Releases
      before 3 (ROS Jazzy and older) read the second of the two variables only, and later ones complain of it.
    - Passive waiting of OpenMP threads: spinning ones beside a busy process turned 0.2 ms into 24 ms.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    if not any(os.environ.get(name) for name in PROFILE_VARIABLES):
        profile = fast_dds_profile()
        if profile is not None:
            for name in PROFILE_VARIABLES if reads_older_variable() else PROFILE_VARIABLES[:1]:
                os.environ[name] = str(profile)
    problem = mixed_installations()
    if problem:
        print(f"mvla_pruned_ros: warning: {problem}", file=sys.stderr)


def middleware_problems(implementation: str, shared_memory: Path = Path("/dev/shm")) -> list[tuple[str, str]]:
    """What keeps images from this process's middleware, and what to do about it.

    Args:
        implementation: as ``rmw_fastrtps_cpp``; others need no profile. shared_memory: where its segments lie.
    """
    if "fastrtps" not in implementation:
        return []
    found = []
    profile = f"export {PROFILE_VARIABLES[0]}={fast_dds_profile()}"
    name = PROFILE_VARIABLES[1] if reads_older_variable() else PROFILE_VARIABLES[0]
    path = os.environ.get(name, "")
    if not path:
        found.append((f"{name} is not set: Fast DDS has 512 KB of shared memory, and loses most images", profile))
    elif not Path(path).is_file():
        found.append((f"{name} is {path}, and there is no such file: Fast DDS goes by its own 512 KB", profile))
    elif "segment_size" not in Path(path).read_text(errors="replace"):
        found.append(
            (f"the profile {path} ({name}) sets no segment_size: 512 KB of shared memory are too few", profile)
        )
    if shared_memory.is_dir():
        space = os.statvfs(shared_memory)
        free_mb = space.f_bavail * space.f_frsize / 2**20
        if free_mb < LEAST_SHARED_MB:
            remedy = "docker run --shm-size=512m ...  # or --ipc=host; else remove old /dev/shm/fastrtps_*"
            found.append((f"{shared_memory} has {free_mb:.0f} MB left, a node takes 32", remedy))
    return found


def reads_older_variable() -> bool:
    """Whether this ROS has a Fast DDS before 3."""
    try:
        return int(importlib.metadata.version("ros-rclpy").split(".")[0]) < KILTED_RCLPY
    except importlib.metadata.PackageNotFoundError:
        return os.environ.get("ROS_DISTRO", "") in ("humble", "iron", "jazzy")


def fast_dds_profile() -> Path | None:
    """The packaged profile, or None when the package does not lie on disk as files."""
    path = Path(str(importlib.resources.files(__package__) / "fastdds.xml"))
    return path if path.is_file() else None


def mixed_installations() -> str | None:
    """What is wrong when a sourced ROS and the ``ros-*`` wheels are both in reach, else None.

    The wheels put their libraries on LD_LIBRARY_PATH; with two builds of rcl in one process it crashes or hangs.
    """
    prefixes = os.environ.get("AMENT_PREFIX_PATH")
    if not prefixes:
        return None
    try:
        version = importlib.metadata.version("ros-rclpy")
    except importlib.metadata.PackageNotFoundError:
        return None
    return (
        f"a ROS installation is sourced ({prefixes.split(os.pathsep)[0]}) and the wheel ros-rclpy {version} is "
        "installed too: use a shell without the installation, or an environment without the wheels"
    )
