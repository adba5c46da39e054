"""Faults that are planted into the healthy robot of ``preflight_graph``, and what preflight must say of each."""

from __future__ import annotations

import time
from array import array
from collections.abc import Callable
from typing import Any

import pytest

pytest.importorskip("rclpy", reason="no ROS here: the live robot needs a graph")

import numpy as np
from geometry_msgs.msg import PoseStamped, Twist, TwistStamped
from preflight_graph import BEST_EFFORT, LATCHED, Robot, named
from preflight_robot import CAMERA, DEPTH, PIXELS, extrinsics, moved
from rclpy.node import Node
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import CompressedImage
from std_msgs.msg import Empty, String

from mvla_pruned_ros.node.ros_messages import ENCODER
from mvla_pruned_ros.policy.runtime import WarmUp
from mvla_pruned_ros.preflight.finding import Level

K1 = [0.45, -2.5, 8e-4, -3e-4, 1.45, 0.33, -2.3, 1.38]  # of a rational_polynomial
SECOND_NS = 1_000_000_000
OK, UNKNOWN, WARN, FAIL = Level.OK, Level.UNKNOWN, Level.WARN, Level.FAIL
COLOUR = "/camera/color/image_raw"


def only(stream: str, alter: Callable[[Any], Any]) -> Callable[[str, Any], Any]:
    """A change of the messages of one stream, or of several, named with blanks between."""
    return lambda name, message: alter(message) if name in stream.split() else message


def set_fields(**fields: Any) -> Callable[[Any], Any]:
    def alter(message: Any) -> Any:
        for name, value in fields.items():
            setattr(message, name, value)
        return message

    return alter


def in_frame(frame: str) -> Callable[[Any], Any]:
    def alter(message: Any) -> Any:
        message.header.frame_id = frame
        return message

    return alter


def stamped(shift: Callable[[int], int]) -> Callable[[Any], Any]:
    """With another stamp. Args: shift: of the right one, nanoseconds."""

    def alter(message: Any) -> Any:
        stamp = message.header.stamp
        message.header.stamp = ENCODER.time(shift(stamp.sec * SECOND_NS + stamp.nanosec))
        return message

    return alter


def joints(names: list[str], positions: list[float]) -> Callable[[Any], Any]:
    return set_fields(name=names, position=array("d", positions))


def depth(values: np.ndarray, encoding: str) -> Callable[[Any], Any]:
    def alter(message: Any) -> Any:
        stamp = message.header.stamp
        return ENCODER.image(values, encoding, stamp.sec * SECOND_NS + stamp.nanosec, message.header.frame_id)

    return alter


def seen(node: Node, robot: Robot) -> bool:
    """Whether the robot is known; its publishers and this node are not all connected."""
    return named(node, robot) and node.count_publishers("/policy/image") > 0


def publishes(kind: type, topic: str, **options: Any) -> Callable[[Any], Node]:
    """A node of its own that publishes on a topic."""

    def make(context: Any) -> Node:
        node = Node("other", context=context)
        publisher = node.create_publisher(kind, topic, options.get("qos", 10))
        node.create_timer(0.1, lambda: publisher.publish(kind()))
        return node

    return make


def servo(context: Any) -> Node:
    node = Node("servo", context=context)
    node.create_subscription(TwistStamped, "/servo_node/delta_twist_cmds", lambda m: None, 10)
    return node


def listens_latched(context: Any) -> Node:
    node = Node("servo", context=context)
    node.create_subscription(TwistStamped, "/policy/command/twist", lambda m: None, LATCHED)
    return node


def another_policy(context: Any) -> Node:
    node = Node("policy_left", context=context)
    node.create_publisher(TwistStamped, "/policy/command/twist", 10)
    node.create_publisher(Empty, "/policy_left/command/claim", 1)
    return node


def joystick(context: Any) -> Node:
    node = Node("joystick", context=context)
    node.create_publisher(TwistStamped, "/policy/command/twist", 10)
    return node


ROTATION = CAMERA.base_from_camera
WXYZ = {"extrinsics.rotation_xyzw": np.roll(extrinsics()["extrinsics.rotation_xyzw"], 1).tolist()}
ARM = ["joint1", "joint2", "fr3_finger_joint1"]
# What is planted: how the look differs from a healthy one, the check that must fail, its level, what it must say, and
# what its remedy must say.
FAULTS: dict[str, tuple[dict[str, Any], str, Level, str, str]] = {
    # Topics.
    "image under the driver's name": (
        {"topics": {"image": COLOUR}}, "image", FAIL, "nobody publishes /policy/image", f"-r '~/image:={COLOUR}'",
    ),
    "image in another namespace": (
        {"topics": {"image": "/left/cam/rgb/image_rect", "depth": "/left/cam/depth_registered/image"}},
        "depth", FAIL, "nobody publishes /policy/depth", "-r '~/depth:=/left/cam/depth_registered/image'",
    ),
    "compressed image only": (
        {"topics": {"image": ""}, "more": publishes(CompressedImage, f"{COLOUR}/compressed")},
        "image", FAIL, "nobody publishes",
        f"-r '~/image/compressed:={COLOUR}/compressed'  # and image_transport: compressed",
    ),
    "topic of another type": (
        {"topics": {"gripper": ""}, "more": publishes(String, "/policy/gripper")},
        "gripper", FAIL, "has type std_msgs/msg/String, sensor_msgs/msg/JointState is needed", "start the driver",
    ),
    "driver publishes nothing": (
        {"change": only("ee_pose", lambda message: None)}, "ee_pose", FAIL, "sent nothing",
        "ros2 topic hz /policy/ee_pose",
    ),
    "images do not arrive": (
        {"change": only("image", lambda message: None)}, "image", FAIL, "nothing arrives: the shared memory",
        "export FASTDDS_DEFAULT_PROFILES_FILE",
    ),
    "two publishers of the pose": (
        {"more": publishes(PoseStamped, "/policy/ee_pose", qos=BEST_EFFORT)}, "ee_pose", WARN,
        "2 publishers on /policy/ee_pose: /other, /robot|2 publishers on /policy/ee_pose: /robot, /other", "end one",
    ),
    # Quality of service.
    "reliable asked of best effort": (
        {"qos_overrides./policy/image.subscription.reliability": "reliable", "ready": seen}, "image", FAIL,
        "incompatible QoS on /policy/image: publisher of robot",
        '"qos_overrides./policy/image.subscription.reliability": best_effort',
    ),
    "durability asked of volatile": (
        {"qos_overrides./policy/depth.subscription.durability": "transient_local", "ready": seen}, "depth", FAIL,
        "incompatible QoS",
        '"qos_overrides./policy/depth.subscription.durability": volatile',
    ),
    "instruction sent as best effort": (
        {"more": publishes(String, "/policy/instruction", qos=BEST_EFFORT)}, "instruction", FAIL,
        "incompatible QoS on /policy/instruction", "--qos-reliability reliable",
    ),
    # Time.
    "clock of the arm behind": (
        {"change": only("ee_pose", stamped(lambda ns: ns - 9_260_000_000))}, "ee_pose", FAIL,
        r"refused: stale, 9\.\d\d s behind this computer's clock.*the nearest to an image is (8|9)\.\d\d s away",
        "sudo chronyc makestep",
    ),
    "clock of the camera ahead": (
        {"change": only("image depth camera_info", stamped(lambda ns: ns + 37 * SECOND_NS))}, "image", FAIL,
        r"stamp in the future, 3[67]\.\d\d s ahead", "sudo chronyc makestep",
    ),
    "pose later than the image": (
        {"change": only("ee_pose", stamped(lambda ns: ns - 200_000_000)), "listen_s": 0.6}, "ee_pose", WARN,
        r"is 2\d\d ms old on arrival and the image \d+ ms: clocks differ", "chronyc",
    ),
    "clock of the depth camera behind by less than the limit": (
        {"change": only("depth", stamped(lambda ns: ns - 1_500_000_000)), "max_observation_age_ms": 5000.0}, "depth",
        FAIL,
        r"nearest /policy/depth is 1\.\d\d s away from the image by its stamp, behind it: clocks differ", "chronyc",
    ),
    "stamps slightly ahead": (
        {"change": only("depth", stamped(lambda ns: ns + 50_000_000))}, "depth", WARN, r"stamped [1-5]\d ms ahead",
        "chronyc",
    ),
    "stamps since the start of the camera": (
        {"change": only("image depth", stamped(lambda ns: ns % (1000 * SECOND_NS)))}, "image", FAIL, "stale",
        "global_time_enabled:=true",
    ),
    "stamps left zero": (
        {"change": only("gripper", stamped(lambda ns: 0))}, "gripper", FAIL, "zero stamp", "leaves header.stamp zero",
    ),
    "use_sim_time without a simulator": (
        {"use_sim_time": True}, "clock", FAIL, "use_sim_time is true, and nobody publishes /clock",
        "use_sim_time: false",
    ),
    "simulator without use_sim_time": (
        {"more": publishes(Clock, "/clock")}, "clock", WARN, "/other publishes /clock, but use_sim_time is false",
        "use_sim_time: true",
    ),
    "camera slower than the limit": (
        {"change": only("image", lambda m: m if int(time.monotonic() / 0.25) % 2 else None),
         "max_observation_age_ms": 200.0, "listen_s": 0.8},
        "image", WARN, r"was silent for 0\.[2-9]\d s", "raise the rate",
    ),
    # Cameras.
    "info of another camera": (
        {"change": only("camera_info", in_frame("camera_depth_optical_frame"))}, "camera_info", FAIL,
        "its camera info in 'camera_depth_optical_frame': these are two cameras",
        "the driver publishes beside this image",
    ),
    "distorted image": (
        {"change": only("camera_info", set_fields(d=array("d", K1), distortion_model="rational_polynomial"))},
        "camera_info", FAIL, "lens distortion of model 'rational_polynomial'.*not rectified",
        "image_proc rectify_node --ros-args -r image:=/policy/image -r camera_info:=/policy/camera_info",
    ),
    "image in a frame nobody named": (
        {"change": only("image camera_info", in_frame("rgb_camera_link"))}, "observations", FAIL,
        "colour image is in frame 'rgb_camera_link'", "camera_frame: rgb_camera_link",
    ),
    "half of the images refused": (
        {"change": only("image", lambda m: m if int(time.monotonic() / 0.2) % 2 else set_fields(encoding="8UC3")(m)),
         "listen_s": 0.8},
        "observations", WARN, r"\d of \d not used: colour image has encoding '8UC3'", "rgb8",
    ),
    "black image": (
        {"change": only("image", depth(PIXELS // 128, "rgb8"))}, "image", WARN, "is black", "auto exposure",
    ),
    "depth not registered to colour": (
        {"change": only("depth", in_frame("camera_depth_optical_frame"))}, "observations", FAIL,
        "depth image is in frame 'camera_depth_optical_frame', not",
        r"align_depth.enable:=true[^$]*depth_registered: false\nsensor_frames: \[camera_depth_optical_frame\]",
    ),
    "depth in tenths of a millimetre": (
        {"change": only("depth", depth((DEPTH * 10000).astype(np.uint16), "16UC1"))}, "workspace", FAIL,
        "0 of .* points lie in the workspace", "depth_unit_m: 0.0001",
    ),
    "depth is the colour image": (
        {"change": only("depth", depth(PIXELS, "rgb8"))}, "depth", FAIL, "depth image has encoding 'rgb8'",
        "remap ~/depth",
    ),
    # Arm and gripper.
    "gripper in metres": (
        {"change": only("gripper", joints(["finger"], [0.035]))}, "gripper", WARN, "0.035, which is taken for 4% open",
        "gripper_closed: 0.0\ngripper_open: 0.04",
    ),
    "joint of the arm for the gripper": (
        {"change": only("gripper", joints(ARM, [0.2, 1.0, 0.02])), "gripper_joint": "joint1"}, "gripper", WARN,
        "gripper_joint is 'joint1', and 'fr3_finger_joint1' looks more like", "gripper_joint: fr3_finger_joint1",
    ),
    "gripper joint of another robot": (
        {"change": only("gripper", joints(ARM, [0.2, 1.0, 0.02])), "gripper_joint": "panda_finger"}, "gripper", FAIL,
        "no joint 'panda_finger'", "gripper_joint: fr3_finger_joint1  # one of joint1, joint2",
    ),
    "hand outside its own workspace": (
        {"workspace_lower": [-0.1, 0.0, 0.3]}, "workspace", WARN, "end effector is at .* outside workspace_lower",
        "correct workspace_lower",
    ),
    # Extrinsics.
    "extrinsics not set": (
        {"extrinsics.translation": None, "extrinsics.rotation_xyzw": None}, "observations", FAIL, "are not set",
        "extrinsics:\n  translation:",
    ),
    "camera 5 cm beside": (
        extrinsics(moved((0.05, 0, 0)).base_from_camera), "extrinsics", FAIL, r"hand is seen \d\.\d cm to the right",
        "calibrate the camera",
    ),
    "camera 5 cm before": (
        extrinsics(moved((0, 0, -0.05)).base_from_camera), "extrinsics", FAIL, "no point within 5 cm", "preflight.png",
    ),
    "quaternion as w x y z": (
        WXYZ, "extrinsics", FAIL, "axes are swapped: .*with the quaternion read as w x y z",
        r"rotation_xyzw: \[-?0\.8022\d\d, -?0\.3398",
    ),
    "pose of the base in the camera": (
        extrinsics(np.linalg.inv(ROTATION)), "extrinsics", FAIL, "axes are swapped: .*the pose inverted",
        r"translation: \[0\.620000, 0\.100000, 0\.620000\]",
    ),
    # Commands and policy.
    "no controller": ({"listens": None}, "controller", FAIL, "nobody listens on /policy/command/twist", "TwistStamped"),
    "controller on another topic": (
        {"listens": None, "more": servo}, "controller", FAIL, "nobody listens",
        "-r '~/command/twist:=/servo_node/delta_twist_cmds'",
    ),
    "controller takes another type": (
        {"listens": Twist}, "controller", FAIL,
        "/robot takes geometry_msgs/msg/Twist, and geometry_msgs/msg/TwistStamped", "command_interface",
    ),
    "controller asks for latched commands": (
        {"listens": None, "more": listens_latched}, "controller", FAIL, "incompatible QoS on /policy/command/twist",
        "volatile",
    ),
    "another policy node": (
        {"more": another_policy}, "controller", FAIL, "another policy node, /policy_left", "lifecycle set /policy_left",
    ),
    "joystick on the command topic": ({"more": joystick}, "controller", WARN, "/joystick sends to", "multiplexer"),
    "policy too slow for its chunk": (
        {"times": WarmUp(900.0, 300.0, 250.0), "topics": {"image": ""}}, "deadline", FAIL,
        "250 ms pass .* a chunk lasts 200 ms", "keep_ratio: 0.25",
    ),
    "no instruction": (
        {"instruction": ""}, "instruction", WARN, "none yet: the arm waits for one on /policy/instruction",
        'ros2 topic pub -1 /policy/instruction std_msgs/String "{data: WORDS}"',
    ),
    "words that the policy does not know": (
        {"instruction": "juggle the puck"}, "instruction", FAIL, "not trained on: juggle", "instruction: WORDS",
    ),
    "instruction too long": (
        {"instruction": "push the puck to the goal " * 3}, "instruction", FAIL,
        "has 18 words, this policy takes 1 to 8", "instruction: WORDS",
    ),
}  # fmt: skip


def all_of(*changes: Callable[[str, Any], Any]) -> Callable[[str, Any], Any]:
    """Several changes, each of the messages of a stream of its own."""

    def change(name: str, message: Any) -> Any:
        for each in changes:
            message = each(name, message)
        return message

    return change


# Several faults at once, on streams of their own: each is named. Look, then check, what it says, its remedy.
TOGETHER: dict[str, tuple[dict[str, Any], list[tuple[str, str, str]]]] = {
    "sizes, units, frames": (
        {
            "change": all_of(
                only("camera_info", set_fields(width=640, height=480)),
                only("gripper", joints(["finger"], [0.08])),
                only("depth", depth(DEPTH * 1000, "32FC1")),
                only("ee_pose", in_frame("panda_link0")),
            ),
            "gripper_open": 0.04,
        },
        [
            ("camera_info", "image is 128 x 128, camera info is for 640 x 480", "publishes beside this image"),
            ("gripper", "is at 0.08, outside", "gripper_open: 0.04  # and when open, rad or m; it is at 0.08"),
            ("depth", "beyond 1.09e.03 m as 32FC1", "metres, or millimetres as 16UC1"),
            ("ee_pose", "pose is in frame 'panda_link0'", "base_frame: panda_link0"),
        ],
    ),
    "nothing to see, joints of the arm": (
        {
            "change": all_of(
                only("camera_info", set_fields(k=np.zeros(9), p=np.zeros(12))),
                only("gripper", joints(ARM, [0.2, 1.0, 0.02])),
                only("depth", depth(np.zeros_like(DEPTH, np.uint16), "16UC1")),
                only("image", set_fields(encoding="8UC3")),
            )
        },
        [
            ("camera_info", "focal lengths 0, 0 .*not calibrated", "0.025 --ros-args -r image:=/policy/image"),
            ("gripper", "has 3 joints", f"gripper_joint: fr3_finger_joint1  # one of {', '.join(ARM)}"),
            ("depth", "100% of its pixels", "emitter"),
            ("image", "colour image has encoding '8UC3'", "rgb8"),
        ],
    ),
}
