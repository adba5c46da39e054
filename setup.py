"""ament_python package; also installable with pip alone."""

from glob import glob

from setuptools import find_packages, setup

NAME = "mvla_pruned_ros"
# rclpy and messages for machines without a ROS installation.
ROS_WHEELS = [
    f"ros-{name}"
    for name in (
        "rclpy[fastrtps]", "rmw-fastrtps-cpp", "std-msgs", "std-srvs", "sensor-msgs", "geometry-msgs",
        "diagnostic-msgs", "lifecycle-msgs", "rcl-interfaces", "rosgraph-msgs",
    )
]  # fmt: skip
# metaworld imports packaging without declaring it, and pins this mujoco.
SIM = ["metaworld==3.1.1", "mujoco==3.3.0", "packaging"]
# ruff and mypy decide whether the tests pass, so they are pinned.
TEST = ["pytest>=7,<9", "ruff==0.17.6", "mypy==2.4.1", "types-setuptools"]

setup(
    name=NAME,
    version="0.1.0",
    packages=find_packages(include=[NAME, f"{NAME}.*"]),
    package_data={NAME: ["py.typed", "models/*/*", "ros/fastdds.xml"]},
    data_files=[
        ("share/ament_index/resource_index/packages", [f"resource/{NAME}"]),
        (f"share/{NAME}", ["package.xml"]),
        (f"share/{NAME}/launch", glob("launch/*.launch.py")),
        (f"share/{NAME}/config", glob("config/*")),
    ],
    python_requires=">=3.10",
    install_requires=[
        "setuptools",
        "numpy>=1.26",
        "scipy>=1.11",
        "pillow>=10",
        "torch>=2.4",
        "transformers>=5.0,<6",
        "tokenizers>=0.20",
        "safetensors>=0.4",
        "open3d>=0.18",
        "rich>=13",
        "rosbags>=0.10",
    ],
    extras_require={
        "sim": SIM,
        "train": SIM,  # demonstrations come from the simulator
        "pip-ros": ROS_WHEELS,
        "test": TEST,
    },
    entry_points={
        "console_scripts": [
            f"mvla = {NAME}.cli.main:main",
            f"policy_node = {NAME}.ros.policy_node:main",
            f"simulator_node = {NAME}.ros.simulator_node:main",
        ]
    },
    zip_safe=False,
    maintainer="mvla_pruned_ros maintainers",
    maintainer_email="maintainers@mvla-pruned-ros.dev",
    description="Token-pruned multi-visual-modal VLA policies as a ROS 2 node",
    license="Apache-2.0",
)
