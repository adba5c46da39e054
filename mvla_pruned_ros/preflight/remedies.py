"""Refusals of the node, in the words of the code that makes them, and the line that ends each of them."""

from __future__ import annotations

import re

# What a refusal says -> what to paste; groups of the first are filled into the second.
RULES: tuple[tuple[str, str], ...] = (
    (
        r"the picture is not rectified",
        "ros2 run image_proc rectify_node --ros-args -r image:=IMAGE -r camera_info:=CAMERA_INFO\n"
        "# the same for depth; then remap to image_rect and its camera info",
    ),
    (r"the camera is not calibrated", "ros2 run camera_calibration cameracalibrator --size 8x6 --square 0.025 "
     "--ros-args -r image:=IMAGE\n# or use the camera info that the driver publishes beside the image"),
    (r"sizes of another shape", "# remap to the camera info that the driver publishes beside this image"),
    (r"colour image is in frame '(?P<frame>[^']+)', and the pose", "camera_frame: {frame}"),
    (r"colour image \S+ is in frame '(?P<frame>[^']+)', and where", "sensor_frames: [{frame}]\n"
     "sensor_extrinsics: [X, Y, Z, QX, QY, QZ, QW]  # its pose in {base}"),
    (r"depth image is in frame '(?P<frame>[^']+)', not", "align_depth.enable:=true  # of realsense2_camera, or\n"
     "depth_registered: false\nsensor_frames: [{frame}]\n"
     "sensor_extrinsics: [X, Y, Z, QX, QY, QZ, QW]  # its pose in {base}"),
    (r"(?:point cloud|depth image) is in frame '(?P<frame>[^']+)', and where", "sensor_frames: [{frame}]\n"
     "sensor_extrinsics: [X, Y, Z, QX, QY, QZ, QW]  # its pose in {base}"),
    (r"are the clocks in step", "sudo chronyc makestep  # on the computers that stamp the two: both by one NTP server"),
    (r"^nothing on /|only messages with these", "# see the line of that stream"),
    (r"these are two cameras", "# remap to the camera info that the driver publishes beside this image"),
    (r"end-effector pose is in frame '(?P<frame>[^']+)'", "base_frame: {frame}  # if extrinsics and workspace are "
     "given in it; else publish the pose in {base}"),
    (r"quaternion of length", "# publish the orientation in ~/ee_pose, or: ee_pose_source: tf"),
    (r"has \d+ joints \((?P<names>[^)]+)\)", "gripper_joint: JOINT  # one of {names}"),
    (r"gripper state has no joint '[^']+' \(gripper_joint\), its joints are (?P<names>[^:]+):",
     "gripper_joint: JOINT  # one of {names}"),
    (r"gripper (?:opening is|joint \S+ is at) (?P<position>\S+?)[:,]",
     "gripper_closed: 0.0  # its position when closed\n"
     "gripper_open: 0.04  # and when open, rad or m; it is at {position} now"),
    (r"joint states have no position of [^(]+\(joint_names\), only of (?P<names>.+)",
     "joint_names: [...]  # of {names}"),
    (r"extrinsics.translation and extrinsics.rotation_xyzw are not set|pose of the camera is not given",
     "extrinsics:\n  translation: [X, Y, Z]  # of {camera} in {base}, metres\n"
     "  rotation_xyzw: [QX, QY, QZ, QW]"),
    (r"tf2_ros cannot be imported", "sudo apt install ros-$ROS_DISTRO-tf2-ros-py"),
    (r"colour image has encoding '(?:16UC1|32FC1|mono16)'", "# remap ~/image to the colour image: this is depth"),
    (r"depth image has encoding '(?:rgb8|bgr8|rgba8|bgra8)'", "# remap ~/depth to the depth image: this is colour"),
    (r"CUDA devices here", "device: cpu  # or install a CUDA build of torch and a driver"),
)  # fmt: skip


def remedy_of(refusal: str, base: str = "base_frame", camera: str = "camera_frame") -> str:
    """What to do about a refusal: the lines of its rule, or else what it says itself.

    Args:
        base, camera: names of the two frames.
    """
    for pattern, remedy in RULES:
        found = re.search(pattern, refusal)
        if found:
            words = {"base": base, "camera": camera}
            words |= {name: value or "those it has" for name, value in found.groupdict().items()}
            for name, value in words.items():
                remedy = remedy.replace(f"{{{name}}}", value)
            return remedy
    return refusal.partition(": ")[2] or "see docs/topics.md"
