"""How fast and how far the robot may be sent."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

SPEED_LIMITS = ("per_axis", "norm")
BORDER_S = 0.1  # motion towards the border of the workspace is slowed so that it would take at least this long


@dataclass(frozen=True)
class Limits:
    """What may be sent.

    Attributes:
        max_speed_m_s, max_angular_speed_rad_s: see ``speed_limit``.
        workspace_lower, workspace_upper: box of the end effector, base frame, metres.
        max_joint_speed: of each joint, rad/s or m/s. joint_lower, joint_upper: positions of the joints, rad or m; one
            number for all of them or one for each.
        lookahead_s: a target, a pose or joint positions, is where the robot shall be after so long; no target lies
            farther from where it is than the speed limit goes in that time.
        speed_limit: ``per_axis`` cuts each axis off at its limit: up to 1.7 times as fast in all, and the way bends.
            ``norm`` shortens the velocity and the angular velocity, each as a whole: the direction stays.
        period_s: between two commands.
    """

    max_speed_m_s: float = 1.0
    workspace_lower: tuple[float, ...] = (-10.0, -10.0, -10.0)
    workspace_upper: tuple[float, ...] = (10.0, 10.0, 10.0)
    max_angular_speed_rad_s: float = 1.0
    max_joint_speed: float = 1.0
    joint_lower: tuple[float, ...] = (-2 * math.pi,)
    joint_upper: tuple[float, ...] = (2 * math.pi,)
    lookahead_s: float = 0.1
    speed_limit: str = "per_axis"
    period_s: float = 0.0

    def __post_init__(self) -> None:
        if self.speed_limit not in SPEED_LIMITS:
            raise ValueError(f"speed_limit must be one of {', '.join(SPEED_LIMITS)}, got {self.speed_limit!r}")
        for name in ("max_speed_m_s", "max_angular_speed_rad_s", "max_joint_speed", "lookahead_s"):
            if not 0 < getattr(self, name) < math.inf:
                raise ValueError(f"{name} must be positive and finite, got {getattr(self, name)}")
        for name in ("workspace_lower", "workspace_upper"):
            corner = getattr(self, name)
            if len(corner) != 3 or not all(map(math.isfinite, corner)):
                raise ValueError(f"{name} must be three finite numbers, got {corner}")
        if not all(low < high for low, high in zip(self.workspace_lower, self.workspace_upper)):
            raise ValueError(
                f"workspace_lower {self.workspace_lower} must be below upper {self.workspace_upper} on each axis"
            )
        lower, upper = self.joint_lower, self.joint_upper
        if not lower or not upper or not all(map(math.isfinite, (*lower, *upper))):
            raise ValueError(f"joint_lower and joint_upper must be finite numbers, got {lower} and {upper}")
        if len({len(lower), len(upper)} - {1}) > 1:
            raise ValueError(f"joint_lower has {len(lower)} numbers and joint_upper {len(upper)}: one for each joint")
        if not (np.array(lower) < np.array(upper)).all():
            raise ValueError(f"joint_lower {lower} must be below joint_upper {upper} for each joint")

    @property
    def goal_s(self) -> float:
        """How far ahead on its way the end effector is led to; a shorter time than a period would overshoot."""
        return max(self.lookahead_s, self.period_s)

    def contain(self, position: np.ndarray) -> bool:
        """Whether (3,) metres lie in the workspace."""
        return bool((position >= self.workspace_lower).all() and (position <= self.workspace_upper).all())


def limit_velocity(
    velocity: np.ndarray, limits: Limits, position: np.ndarray | None, straight: bool = False
) -> np.ndarray:
    """Limit (6,) linear and angular velocity, base frame, m/s and rad/s.

    Args:
        straight: as by the ``speed_limit`` ``norm``.
        position: (3,) of the end effector, metres, base frame; None when it is not known. Motion out of the workspace
            is slowed from ``BORDER_S`` before the border on and cut off beyond it; motion back in is free.
    """
    most = np.repeat([limits.max_speed_m_s, limits.max_angular_speed_rad_s], 3)
    if straight or limits.speed_limit == "norm":
        speed = np.repeat([np.linalg.norm(velocity[:3]), np.linalg.norm(velocity[3:])], 3)
        limited = velocity * np.minimum(1, most / np.maximum(speed, most))
    else:
        limited = np.clip(velocity, -most, most)
    if position is not None:
        fastest_down = np.minimum((np.asarray(limits.workspace_lower) - position) / BORDER_S, 0)
        fastest_up = np.maximum((np.asarray(limits.workspace_upper) - position) / BORDER_S, 0)
        limited[:3] = np.clip(limited[:3], fastest_down, fastest_up)
    return limited
