"""What the policy node subscribes to, by its parameters."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from geometry_msgs.msg import PoseStamped
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, QoSPolicyKind, QoSProfile, ReliabilityPolicy
from rclpy.qos_overriding_options import QoSOverridingOptions
from sensor_msgs.msg import CameraInfo, CompressedImage, Image, JointState, PointCloud2

from ..observation.streams import INTERPOLATED, cloud_streams, image_streams, is_camera_info
from ..observation.synchronizer import Synchronizer
from .parameters import Settings, joint_names_of

LATCHED_QOS = QoSProfile(depth=1, reliability=ReliabilityPolicy.RELIABLE, durability=DurabilityPolicy.TRANSIENT_LOCAL)
OVERRIDABLE = (QoSPolicyKind.HISTORY, QoSPolicyKind.DEPTH, QoSPolicyKind.RELIABILITY, QoSPolicyKind.DURABILITY)
SMALL_DEPTH = 20  # of the small messages between which an image lies, at 100 Hz: the executor may be busy for a while


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


def subscribe(node: Node, settings: Settings, take: Callable[[str, Any], None]) -> dict[str, str]:
    """Subscribe to all of ``input_topics``.

    Args:
        take: called with the stream and its message.

    Returns:
        Stream -> resolved topic name.
    """
    topics = {}
    for name, (kind, topic) in input_topics(settings).items():
        # A profile for each: rclpy writes what is overridden into it, and one stream's would be all streams'.
        depth = SMALL_DEPTH if name in INTERPOLATED else 1
        qos = QoSProfile(depth=depth, reliability=ReliabilityPolicy.BEST_EFFORT)
        subscription = node.create_subscription(
            kind,
            topic,
            lambda m, n=name: take(n, m),
            qos,
            qos_overriding_options=QoSOverridingOptions(policy_kinds=OVERRIDABLE),
        )
        topics[name] = subscription.topic_name
        if is_camera_info(name) and qos.durability != DurabilityPolicy.TRANSIENT_LOCAL:
            # One that is sent once, latched, before this node is there reaches only who asks for what was sent
            # before; and who asks for that is not connected to a publisher that keeps nothing. So both are asked.
            node.create_subscription(kind, topic, lambda m, n=name: take(n, m), LATCHED_QOS)
    return topics


def synchronizer(settings: Settings, topics: Mapping[str, str]) -> Synchronizer:
    """What matches the messages of ``subscribe``. Args: topics: that it returned."""
    infos = tuple(filter(is_camera_info, topics))
    joints = {"gripper": [settings["gripper_joint"]], "joint_states": joint_names_of(settings)}
    return Synchronizer(dict(topics), unstamped=infos, joints=joints, hand=any(settings["hand_frames"]))
