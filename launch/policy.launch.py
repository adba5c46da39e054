"""The policy node alone, for a robot or a simulator that is already running.

ros2 launch mvla_pruned_ros policy.launch.py params_file:=my_robot.yaml
"""

from __future__ import annotations

from launch.actions import DeclareLaunchArgument
from launch.substitutions import LaunchConfiguration, PathJoinSubstitution
from launch_ros.actions import Node
from launch_ros.parameter_descriptions import ParameterValue
from launch_ros.substitutions import FindPackageShare

from launch import LaunchDescription

PACKAGE = "mvla_pruned_ros"


def generate_launch_description() -> LaunchDescription:
    """Arguments and the node. Connect its private topics with remappings in a launch file of your own."""
    return LaunchDescription(
        [
            DeclareLaunchArgument(
                "params_file",
                default_value=PathJoinSubstitution([FindPackageShare(PACKAGE), "config", "robot.yaml"]),
                description="Parameters: your copy of config/robot.yaml with everything marked SET THIS filled in.",
            ),
            DeclareLaunchArgument("namespace", default_value="", description="Namespace of the node."),
            DeclareLaunchArgument("use_sim_time", default_value="false", description="Take the time from /clock."),
            DeclareLaunchArgument("log_level", default_value="info", description="debug, info, warn, error or fatal."),
            Node(
                package=PACKAGE,
                executable="policy_node",
                name="policy",
                namespace=LaunchConfiguration("namespace"),
                output="screen",
                parameters=[
                    LaunchConfiguration("params_file"),
                    {"use_sim_time": ParameterValue(LaunchConfiguration("use_sim_time"), value_type=bool)},
                ],
                ros_arguments=["--log-level", LaunchConfiguration("log_level")],
            ),
        ]
    )
