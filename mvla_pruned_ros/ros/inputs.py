"""What the policy node subscribes to, by its parameters."""

from __future__ import annotations

from geometry_msgs.msg import PoseStamped
from sensor_msgs.msg import CameraInfo, CompressedImage, Image, JointState, PointCloud2

from .parameters import Settings


def input_topics(settings: Settings) -> dict[str, tuple[type, str]]:
    """Stream -> message type and topic. A compressed image is found below the raw one, as image_transport has it."""
    compressed = settings["image_transport"] == "compressed"
    cloud: tuple[type, str] = (PointCloud2, "~/points")
    if settings["cloud_source"] == "depth":
        transport = settings["depth_transport"]
        cloud = (Image, "~/depth") if transport == "raw" else (CompressedImage, f"~/depth/{transport}")
    return {
        "image": (CompressedImage, "~/image/compressed") if compressed else (Image, "~/image"),
        settings["cloud_source"]: cloud,
        "camera_info": (CameraInfo, "~/camera_info"),
        "ee_pose": (PoseStamped, "~/ee_pose"),
        "gripper": (JointState, "~/gripper"),
    }
