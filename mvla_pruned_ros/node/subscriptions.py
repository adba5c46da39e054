"""What the policy node subscribes to, by its parameters."""

from __future__ import annotations

from geometry_msgs.msg import PoseStamped
from sensor_msgs.msg import CameraInfo, CompressedImage, Image, JointState, PointCloud2

from ..observation.streams import cloud_streams, image_streams, is_camera_info
from .parameters import Settings, joint_names_of


def input_topics(settings: Settings) -> dict[str, tuple[type, str]]:
    """Stream -> message type and topic. A compressed image is found below the raw one, as image_transport has it."""
    compressed = settings["image_transport"] == "compressed"
    kinds: dict[str, tuple[type, str]] = {}
    for name in image_streams(settings["extra_images"]):
        if is_camera_info(name):
            kinds[name] = (CameraInfo, f"~/{name}")
        else:
            kinds[name] = (CompressedImage, f"~/{name}/compressed") if compressed else (Image, f"~/{name}")
    kinds |= {
        "ee_pose": (PoseStamped, "~/ee_pose"),
        "gripper": (JointState, "~/gripper"),
    }
    if joint_names_of(settings):
        kinds["joint_states"] = (JointState, "~/joint_states")
    if settings["ee_pose_source"] == "tf":
        del kinds["ee_pose"]
    transport = settings["depth_transport"]
    for name in cloud_streams(settings["cloud_source"], settings["depth_registered"], settings["extra_clouds"]):
        if is_camera_info(name):
            kinds[name] = (CameraInfo, f"~/{name}")
        elif name.startswith("points"):
            kinds[name] = (PointCloud2, f"~/{name}")
        else:
            kinds[name] = (Image, f"~/{name}") if transport == "raw" else (CompressedImage, f"~/{name}/{transport}")
    return kinds
