"""A policy that takes all that the arm of ``whole_arm`` tells, and turns its hand; its weights are random."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ..policy.mvla.config import MVLAConfig
from ..policy.mvla.random_weights import save_random_policy
from .whole_arm import JOINTS

CONFIG = MVLAConfig(
    views=("image", "image_1"), proprio=("ee_position", "ee_rotation_6d", "gripper", "joint_positions"),
    proprio_dim=10 + len(JOINTS), action_dim=7, width=64, depth=2, heads=2, mlp_width=128, evidence_layers=(1,),
    step_s=0.25,  # a chunk lasts 4 s, so that a slow computer, too, has an action that is due
)  # fmt: skip
LARGEST = np.array([0.5] * 3 + [1.0] * 3 + [1.0], np.float32)  # of an action: m/s, rad/s, gripper


def save_whole_arm_policy(folder: Path, instruction: str) -> Path:
    """Write a policy folder; returns it."""
    return save_random_policy(folder, CONFIG, [instruction], LARGEST)
