"""The policy node, connected to a running realsense2_camera, Franka arm and MoveIt Servo. Untested on hardware.

ros2 launch mvla_pruned_ros realsense_franka.launch.py params_file:=my_copy_of_realsense_franka.yaml

config/realsense_franka.yaml lists what has to run, with which settings, and the gripper bridge you have to write.
"""

from __future__ import annotations

from launch.actions import DeclareLaunchArgument
from launch.substitutions import LaunchConfiguration, PathJoinSubstitution
from launch_ros.actions import Node
from launch_ros.substitutions import FindPackageShare

from launch import LaunchDescription

PACKAGE = "mvla_pruned_ros"
# Topic of the node: topic of the driver. ~/command/gripper keeps its name; your bridge subscribes to it.
REMAPPINGS = {
    "~/image": "/camera/camera/color/image_raw",
    "~/depth": "/camera/camera/aligned_depth_to_color/image_raw",
    "~/camera_info": "/camera/camera/color/camera_info",
    "~/ee_pose": "/franka_robot_state_broadcaster/current_pose",
    "~/gripper": "/franka_gripper/joint_states",
    "~/command/twist": "/servo_node/delta_twist_cmds",
}


def generate_launch_description() -> LaunchDescription:
    """Arguments and the node, connected by the drivers' names."""
    return LaunchDescription(
        [
            DeclareLaunchArgument(
                "params_file",
                default_value=PathJoinSubstitution([FindPackageShare(PACKAGE), "config", "realsense_franka.yaml"]),
                description="Your copy of config/realsense_franka.yaml, with everything marked SET THIS filled in.",
            ),
            DeclareLaunchArgument("log_level", default_value="info", description="debug, info, warn, error or fatal."),
            Node(
                package=PACKAGE,
                executable="policy_node",
                name="policy",
                output="screen",
                parameters=[LaunchConfiguration("params_file")],
                remappings=list(REMAPPINGS.items()),
                ros_arguments=["--log-level", LaunchConfiguration("log_level")],
            ),
        ]
    )
