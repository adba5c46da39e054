"""What the topics of a bag mean: names by role, frames, extrinsics, instruction. From words of a command or a file."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from ..configuration.reader import check_names, from_entries, read_yaml
from ..messages.decode import MILLIMETRE, Readers
from ..messages.gripper import GripperCommandRange, GripperJoint
from ..observation.frames import Frames, of_the_hand, pose_of, sensor_poses
from ..observation.streams import EXTRA_CLOUD, EXTRA_IMAGE, INFO, cloud_streams, image_streams
from .reader import Bag

IMAGES = ("sensor_msgs/msg/Image", "sensor_msgs/msg/CompressedImage")
# Role: the types it may have.
ROLES: dict[str, tuple[str, ...]] = {
    "image": IMAGES,
    "depth": IMAGES,  # compressed: the transport compressedDepth
    "points": ("sensor_msgs/msg/PointCloud2",),
    "camera_info": ("sensor_msgs/msg/CameraInfo",),
    "ee_pose": ("geometry_msgs/msg/PoseStamped",),
    "gripper": ("sensor_msgs/msg/JointState",),
    "instruction": ("std_msgs/msg/String",),
    "twist": ("geometry_msgs/msg/TwistStamped", "geometry_msgs/msg/Twist"),
    "gripper_command": ("std_msgs/msg/Float64",),
}
# Read only where the setup says so.
JOINTS, TRAJECTORY = "joint_states", "joint_trajectory"
TRANSFORMS = {"tf": "/tf", "tf_static": "/tf_static"}
TRANSFORM_TYPES = ("tf2_msgs/msg/TFMessage",)
EXTRINSICS_SOURCES = ("parameters", "tf")
EE_POSE_SOURCES = ("topic", "tf")
SENSORS = ("image", "depth", "points", "camera_info", "ee_pose", "gripper")
# Those of `mvla record`.
TOPICS = {
    **{role: f"/simulator/{role}" for role in SENSORS},
    "instruction": "/policy/instruction",
    "twist": "/policy/command/twist",
    "gripper_command": "/policy/command/gripper",
}
SPLITS = ("instruction", "bag")
FILE_KEYS = (
    "topics", "base_frame", "camera_frame", "extrinsics_source", "extrinsics", "depth_registered", "extra_clouds",
    "sensor_frames", "sensor_extrinsics", "sync_tolerance_ms", "instruction", "split", "ee_pose_source", "ee_frame",
    "gripper_joint", "gripper_closed", "gripper_open", "gripper_command_range", "depth_unit_m", "extra_images",
    "joint_names", "hand_frames",
)  # fmt: skip


def types_of(role: str) -> tuple[str, ...]:
    """Message types that a role may have; raises ValueError for a role there is not."""
    if role in TRANSFORMS:
        return TRANSFORM_TYPES
    if role == JOINTS:
        return ROLES["gripper"]
    if role == TRAJECTORY:
        return ("trajectory_msgs/msg/JointTrajectory",)
    name = role.removesuffix(INFO)
    if EXTRA_CLOUD.fullmatch(name) or EXTRA_IMAGE.fullmatch(name) or name == "depth":
        return ROLES[name.split("_")[0] if name == role else "camera_info"]
    if role not in ROLES:
        more = f"image_1, image_1{INFO}, depth{INFO}, depth_1, depth_1{INFO}, points_1, ..."
        raise ValueError(
            f"unknown topic role {role!r}: choose from {', '.join((*ROLES, JOINTS, TRAJECTORY, *TRANSFORMS))}, {more}"
        )
    return ROLES[role]


@dataclass(frozen=True)
class BagSetup:
    """How to read a bag. The defaults are those of the policy node and of `mvla record`.

    Attributes:
        topics: role -> topic, for the roles whose topics have other names than in ``TOPICS``.
        base_frame, camera_frame: frame of pose and commands; optical frame of the colour image and what is registered
            to it.
        base_from_camera: (4, 4) pose of the optical frame in the base frame; None: not known, or told by tf.
        extrinsics_source: ``parameters``: the poses given here. ``tf``: those of the bag's tf, at each stamp.
        depth_registered: depth has frame and camera info of the colour image. Naming a topic for depth_camera_info says
            that it has not.
        extra_clouds: roles of more clouds, depth_1, points_2, ...; those that ``topics`` names are read anyway.
        sensor_frames, sensor_extrinsics: frames of other depth images and clouds; x y z qx qy qz qw of each.
        sync_tolerance_ms: largest difference of header stamps between an image and what belongs to it.
        instruction: words for the whole bag, in place of the topic; "" reads the topic.
        split: ``instruction``: each message of the topic begins an episode. ``bag``: only other words do.
        ee_pose_source: ``topic``: of the role ee_pose. ``tf``: of ``ee_frame``, looked up at each stamp.
        ee_frame: frame of the end effector in tf, and one that twists may be in.
        gripper_joint, gripper_closed, gripper_open: which joint of the role gripper it is ("": the only one), and its
            positions when closed and open, rad or m.
        gripper_command_range: what the role gripper_command says for open and for closed.
        depth_unit_m: metres per unit of 16UC1 depth.
        extra_images: roles of more colour images, image_1, image_2, ...; those that ``topics`` names are read anyway.
        hand_frames: those of camera_frame and sensor_frames that the hand carries; their poses are given in the frame
            of the end effector.
        joint_names: of the role joint_states, in the order in which policies are told their positions; none: not read.
    """

    topics: Mapping[str, str] = field(default_factory=dict)
    base_frame: str = "base"
    camera_frame: str = "camera_color_optical_frame"
    base_from_camera: np.ndarray | None = None
    extrinsics_source: str = "parameters"
    depth_registered: bool = True
    extra_clouds: Sequence[str] = ()
    sensor_frames: Sequence[str] = ()
    sensor_extrinsics: Sequence[float] = ()
    sync_tolerance_ms: float = 60.0
    instruction: str = ""
    split: str = "instruction"
    ee_pose_source: str = "topic"
    ee_frame: str = ""
    gripper_joint: str = ""
    gripper_closed: float = 0.0
    gripper_open: float = 1.0
    gripper_command_range: Sequence[float] = (-1.0, 1.0)
    depth_unit_m: float = MILLIMETRE
    extra_images: Sequence[str] = ()
    joint_names: Sequence[str] = ()
    hand_frames: Sequence[str] = ()

    def __post_init__(self) -> None:
        for role in sorted(self.topics):
            types_of(role)
        if self.extrinsics_source not in EXTRINSICS_SOURCES:
            raise ValueError(
                f"extrinsics_source is {self.extrinsics_source!r}: choose from {', '.join(EXTRINSICS_SOURCES)}"
            )
        if self.from_tf and self.base_from_camera is not None:
            raise ValueError("extrinsics are given, but extrinsics_source is tf: give one of the two")
        if self.from_tf and any(self.hand_frames):
            raise ValueError("extrinsics_source is tf, which tells where the hand's cameras are: leave hand_frames out")
        sensor_poses(self.sensor_frames, self.sensor_extrinsics)
        self._clouds("depth")
        self._images()
        if self.split not in SPLITS:
            raise ValueError(f"split is {self.split!r}: choose from {', '.join(SPLITS)}")
        if not 0 <= self.sync_tolerance_ms <= 1000:
            raise ValueError(f"sync_tolerance_ms is {self.sync_tolerance_ms}, must lie in [0, 1000]")
        self._check_end_effector()
        self.readers()
        self.gripper_commands()

    def _check_end_effector(self) -> None:
        if self.ee_pose_source not in EE_POSE_SOURCES:
            raise ValueError(f"ee_pose_source is {self.ee_pose_source!r}: choose from {', '.join(EE_POSE_SOURCES)}")
        if self.ee_pose_of_tf and not self.ee_frame:
            raise ValueError(
                "ee_pose_source is tf, but ee_frame is empty: name the frame of the end effector, as tool0"
            )
        if self.ee_frame and self.ee_frame == self.base_frame:
            raise ValueError(f"ee_frame is {self.ee_frame!r}, which is base_frame too: name that of the end effector")
        if self.ee_pose_of_tf and "ee_pose" in self.topics:
            raise ValueError(
                f"ee_pose_source is tf, but topics names {self.topics['ee_pose']} for ee_pose: give one of the two"
            )

    def readers(self) -> Readers:
        """How messages are read."""
        gripper = GripperJoint(self.gripper_joint, self.gripper_closed, self.gripper_open)
        return Readers(gripper=gripper, depth_unit_m=self.depth_unit_m, joints=tuple(filter(None, self.joint_names)))

    def joints(self) -> dict[str, tuple[str, ...]]:
        """Stream -> joints that its messages must have."""
        return {"gripper": (self.gripper_joint,), "joint_states": self.readers().joints}

    def gripper_commands(self) -> GripperCommandRange:
        return GripperCommandRange.of(self.gripper_command_range)

    def with_remaps(self, words: Iterable[str]) -> BagSetup:
        """This setup with more topics, from words ``role:=topic`` as ROS writes remaps."""
        topics = dict(self.topics)
        for word in words:
            role, mark, topic = word.partition(":=")
            if not mark or not topic:
                raise ValueError(f"{word!r} is no remap: write role:=/topic, role one of {', '.join(ROLES)}")
            topics[role.removeprefix("~/")] = topic
        return replace(self, topics=topics)

    @property
    def from_tf(self) -> bool:
        return self.extrinsics_source == "tf"

    @property
    def ee_pose_of_tf(self) -> bool:
        return self.ee_pose_source == "tf"

    @property
    def asks_tf(self) -> bool:
        """Whether the bag's tf is read."""
        return self.from_tf or self.ee_pose_of_tf

    @property
    def of_mvla_record(self) -> bool:
        """Whether the sensors' topics have the names that `mvla record` gives them."""
        return all(self.topics.get(role, TOPICS[role]) == TOPICS[role] for role in SENSORS)

    def frames(self) -> Frames:
        """Frame names with the poses of the sensors that are given; tf is not asked yet.

        Raises:
            ValueError: no extrinsics, or none of a frame in ``hand_frames``.
        """
        poses = sensor_poses(self.sensor_frames, self.sensor_extrinsics)
        pose = self.base_from_camera
        if pose is None and not self.from_tf:
            raise ValueError(
                "the pose of the camera is not given, and identity would be a guess: give the pose of its optical "
                "frame in the base frame with --extrinsics X Y Z QX QY QZ QW (metres; quaternion x y z w) or in "
                "the file of --bag-config, or take it from the bag's tf with --extrinsics-source tf"
            )
        poses |= {} if pose is None else {self.camera_frame: pose}
        end_effector = self.ee_frame if self.ee_pose_of_tf else ""
        still, hand = of_the_hand(poses, self.hand_frames)
        return Frames(self.base_frame, self.camera_frame, still, None, end_effector, hand)

    def _images(self) -> list[str]:
        """Roles of colour images and their camera infos."""
        named = [role for role in self.topics if EXTRA_IMAGE.fullmatch(role) and role not in self.extra_images]
        return image_streams([*self.extra_images, *sorted(named)])

    def _clouds(self, source: str) -> list[str]:
        """Roles that points come from, with camera infos of their own."""
        named = [role for role in self.topics if EXTRA_CLOUD.fullmatch(role) and role not in self.extra_clouds]
        registered = self.depth_registered and "depth" + INFO not in self.topics
        return cloud_streams(source, registered, [*self.extra_clouds, *sorted(named)])

    def roles(self, bag: Bag) -> tuple[dict[str, str], set[str]]:
        """Role -> topic that is looked for in a bag, of depth and points only one, and the roles that must be there."""
        found = {role: self.topics.get(role, TOPICS[role]) for role in ROLES}
        cloud = "points" if "depth" not in self.topics and "points" in self.topics else "depth"
        if cloud == "depth" and "depth" not in self.topics and found["depth"] not in bag.types:
            cloud = "points" if found["points"] in bag.types else "depth"
        del found["depth" if cloud == "points" else "points"]
        streams = [*self._images(), *self._clouds(cloud), *[JOINTS] * any(self.joint_names)]
        found |= {role: self.topics.get(role, f"/simulator/{role}") for role in streams}
        found |= {role: self.topics[role] for role in (TRAJECTORY,) if role in self.topics}
        if self.instruction:
            del found["instruction"]
        if self.ee_pose_of_tf:
            del found["ee_pose"]
        return found, {*SENSORS, *streams, "instruction", *self.topics} & set(found)

    def resolve(self, bag: Bag) -> dict[str, str]:
        """Role -> topic of what is in a bag and will be read; of depth and points only one.

        Raises:
            ValueError: a topic that is needed or was named is missing or has a type that cannot be used; the message
                lists the bag's topics and types.
        """
        found, needed = self.roles(bag)
        missing = [f"{role} ({found[role]})" for role in found if role in needed and found[role] not in bag.types]
        if self.asks_tf:
            transforms = {role: self.topics.get(role, topic) for role, topic in TRANSFORMS.items()}
            found |= {role: topic for role, topic in transforms.items() if topic in bag.types}
            missing += [f"{role} ({topic})" for role, topic in transforms.items() if role in self.topics
                        and role not in found]  # fmt: skip
            if not found.keys() & TRANSFORMS:
                missing.append(f"tf ({', '.join(transforms.values())})")
        if missing:
            has = "".join(f"\n  {topic}  {kind}" for topic, kind in sorted(bag.types.items()))
            words = " or give --instruction" if missing == [f"instruction ({found.get('instruction')})"] else ""
            raise ValueError(
                f"{bag.folder} has no topic for {', '.join(missing)}: name it with --remap ROLE:=TOPIC{words}; "
                f"it has:{has or ' no topic at all'}"
            )
        roles = {role: topic for role, topic in found.items() if topic in bag.types}
        for role, topic in roles.items():
            if bag.types[topic] not in types_of(role):
                raise ValueError(
                    f"{topic} in {bag.folder} has type {bag.types[topic]}, but {role} takes "
                    f"{' or '.join(types_of(role))}: name another topic with --remap {role}:=TOPIC"
                )
        return roles

    @classmethod
    def load(cls, path: Path) -> BagSetup:
        """Read a YAML file: either with keys of ``FILE_KEYS``, or the policy node's parameters (config/robot.yaml).

        Of the node's parameters those that concern messages are taken; topics come from remaps.

        Raises:
            ValueError: not such a file; names the file and the key.
        """
        entries = read_yaml(path)
        parameters = _of_the_node(entries)
        if parameters is not None:
            entries = {name: parameters[name] for name in FILE_KEYS if parameters.get(name) not in (None, "")}
        try:
            check_names(entries, FILE_KEYS, "key")
            values = dict(entries)
            extrinsics = values.pop("extrinsics", None)
            if extrinsics is not None and not (parameters and values.get("extrinsics_source") == "tf"):
                values["base_from_camera"] = pose_of(extrinsics["translation"], extrinsics["rotation_xyzw"])
            return from_entries(cls, values, "key")
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(f"{path}: {error}") from error


def node_parameters(path: Path) -> dict[str, Any]:
    """The parameters in a parameter file of the policy node; none in a file of another kind.

    Raises:
        ValueError: not YAML.
    """
    return _of_the_node(read_yaml(path)) or {}


def _of_the_node(entries: Any) -> dict[str, Any] | None:
    """What stands under ``ros__parameters``, however deep, or None."""
    while isinstance(entries, dict):
        if "ros__parameters" in entries:
            return dict(entries["ros__parameters"])
        if len(entries) != 1:
            return None
        entries = next(iter(entries.values()))
    return None
