"""The simulated robot and the policy node, episode after episode until Ctrl-C.

ros2 launch mvla_pruned_ros demo.launch.py task:=push keep_ratio:=0.35
"""

from __future__ import annotations

from launch.actions import DeclareLaunchArgument, Shutdown
from launch.substitutions import LaunchConfiguration, PathJoinSubstitution
from launch_ros.actions import Node
from launch_ros.parameter_descriptions import ParameterValue
from launch_ros.substitutions import FindPackageShare

from launch import LaunchDescription

PACKAGE = "mvla_pruned_ros"
SENSORS = ("image", "depth", "points", "camera_info", "ee_pose", "gripper")
COMMANDS = ("command/twist", "command/gripper")


def _typed(argument: str, kind: type) -> ParameterValue:
    """An argument as a parameter of this type: `real_time_factor:=1` is otherwise an integer, and refused."""
    return ParameterValue(LaunchConfiguration(argument), value_type=kind)


def generate_launch_description() -> LaunchDescription:
    """Arguments and the two nodes, connected by relative names so that a namespace moves both."""
    log_level = ["--log-level", LaunchConfiguration("log_level")]
    return LaunchDescription(
        [
            DeclareLaunchArgument(
                "params_file",
                default_value=PathJoinSubstitution([FindPackageShare(PACKAGE), "config", "demo.yaml"]),
                description="Parameters of both nodes; the other arguments override them.",
            ),
            DeclareLaunchArgument("namespace", default_value="", description="Namespace of both nodes."),
            DeclareLaunchArgument(
                "use_sim_time", default_value="true", description="The policy node takes the time from /clock."
            ),
            DeclareLaunchArgument("log_level", default_value="info", description="debug, info, warn, error or fatal."),
            DeclareLaunchArgument(
                "task", default_value="button-press-topdown", description="Task; a wrong name prints the list."
            ),
            DeclareLaunchArgument("seed", default_value="0", description="Seed of the first episode; then + 1 each."),
            DeclareLaunchArgument(
                "real_time_factor", default_value="0.5", description="Simulated / wall time; 0: as fast as possible."
            ),
            DeclareLaunchArgument(
                "keep_ratio", default_value="0.5", description="Share of visual tokens to keep, (0, 1]."
            ),
            Node(
                package=PACKAGE,
                executable="simulator_node",
                name="simulator",
                namespace=LaunchConfiguration("namespace"),
                output="screen",
                parameters=[
                    LaunchConfiguration("params_file"),
                    {
                        "task": _typed("task", str),
                        "seed": _typed("seed", int),
                        "real_time_factor": _typed("real_time_factor", float),
                    },
                ],
                remappings=[
                    *((f"~/{name}", f"policy/{name}") for name in COMMANDS),
                    ("~/instruction", "policy/instruction"),
                ],
                ros_arguments=log_level,
                on_exit=Shutdown(),
            ),
            Node(
                package=PACKAGE,
                executable="policy_node",
                name="policy",
                namespace=LaunchConfiguration("namespace"),
                output="screen",
                parameters=[
                    LaunchConfiguration("params_file"),
                    {
                        "keep_ratio": _typed("keep_ratio", float),
                        "use_sim_time": _typed("use_sim_time", bool),
                    },
                ],
                remappings=[(f"~/{name}", f"simulator/{name}") for name in SENSORS],
                ros_arguments=log_level,
                on_exit=Shutdown(),
            ),
        ]
    )
