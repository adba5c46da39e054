"""What must be in the environment before rclpy and torch are used."""

from __future__ import annotations

import os
import sys
from importlib import resources


def prepare_environment() -> None:
    """Call it before ``rclpy.init()`` and before torch is imported.

    - Fast DDS gets a shared-memory segment that holds an image, unless the user chose a profile.
    - Idle OpenMP threads sleep: spinning, they starve the other nodes of a small computer.
    - A sourced ROS beside the rclpy of the ``ros-*`` wheels is pointed out: their libraries do not mix.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    profile = resources.files("mvla_pruned_ros.ros") / "fastdds.xml"
    os.environ.setdefault("FASTDDS_DEFAULT_PROFILES_FILE", str(profile))
    if "AMENT_PREFIX_PATH" in os.environ and "ROS_DISTRO" in os.environ:
        import rclpy

        if rclpy.__file__.startswith(sys.prefix) and sys.prefix != sys.base_prefix:
            print(
                f"warning: ROS {os.environ['ROS_DISTRO']} is sourced, but rclpy comes from {sys.prefix}: use one of "
                "them, or the two sets of libraries will clash",
                file=sys.stderr,
            )
