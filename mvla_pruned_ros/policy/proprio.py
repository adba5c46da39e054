"""What a policy is told of the robot: features by name, put into one vector."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from scipy.spatial.transform import Rotation

from ..types import ArmState


def _position(state: ArmState) -> np.ndarray:
    return state.position


def _rotation_6d(state: ArmState) -> np.ndarray:
    return _rotation(state).as_matrix()[:, :2].T.ravel()


def _euler_xyz(state: ArmState) -> np.ndarray:
    return _rotation(state).as_euler("xyz")


def _gripper(state: ArmState) -> np.ndarray:
    return np.array([state.gripper])


def _joints(state: ArmState) -> np.ndarray:
    if state.joints is None:
        raise ValueError("the policy takes joint_positions, which are not known: set the parameter joint_names")
    return state.joints


def _last_position(state: ArmState) -> np.ndarray:
    return _last_command(state)[:3]


def _last_euler_xyz(state: ArmState) -> np.ndarray:
    return Rotation.from_quat(_last_command(state)[3:]).as_euler("xyz")


def _rotation(state: ArmState) -> Rotation:
    if state.orientation is None:
        raise ValueError(
            "the policy takes the orientation of the end effector, which is not known: publish a unit quaternion with "
            "its pose"
        )
    return Rotation.from_quat(state.orientation)


def _last_command(state: ArmState) -> np.ndarray:
    if state.last_command is None:
        raise ValueError("the policy takes the last commanded pose, and none is known")
    return state.last_command


# Name: size and how it is computed; size 0: that of the rest of the vector. q and -q are one rotation and give the same
# numbers. ``ee_rotation_6d`` is continuous: the first two columns of the rotation matrix, one after the other (Zhou et
# al. 2019, arXiv 1812.07035). Euler angles are extrinsic x, y, z, as scipy's "xyz", and *jump by 2 pi* where one passes
# pi, as with a hand that points down: a policy that takes them saw the same jumps in its training.
FEATURES: dict[str, tuple[int, Callable[[ArmState], np.ndarray]]] = {
    "ee_position": (3, _position),
    "ee_rotation_6d": (6, _rotation_6d),
    "ee_euler_xyz": (3, _euler_xyz),
    "gripper": (1, _gripper),
    "joint_positions": (0, _joints),
    "last_command_position": (3, _last_position),
    "last_command_euler_xyz": (3, _last_euler_xyz),
}


# Those that need an orientation; before the first command the last pose that was commanded is the one that is measured.
OF_ORIENTATION = ("ee_rotation_6d", "ee_euler_xyz", "last_command_position", "last_command_euler_xyz")


def check_features(names: Sequence[str], size: int) -> None:
    """Raises ValueError unless these are features, each once, of ``size`` numbers together."""
    unknown = [name for name in names if name not in FEATURES]
    if unknown or len(set(names)) != len(names) or not names:
        raise ValueError(
            f"proprio must name some of {', '.join(FEATURES)}, each once; got {', '.join(names) or 'none'}"
        )
    least = sum(FEATURES[name][0] for name in names)
    if least > size or (least < size) != ("joint_positions" in names):
        raise ValueError(f"proprio_dim is {size}, and {', '.join(names)} are {least} numbers and those of the joints")


def proprio_vector(state: ArmState, names: Sequence[str], size: int) -> np.ndarray:
    """(size,) float32: features of a state, in order.

    Raises:
        ValueError: one is not known, or there are more or fewer joints than the policy takes.
    """
    vector = np.concatenate([FEATURES[name][1](state) for name in names]).astype(np.float32)
    if len(vector) != size:
        joints = 0 if state.joints is None else len(state.joints)
        raise ValueError(f"proprio has {len(vector)} values with {joints} joints, the policy takes {size}")
    return vector
