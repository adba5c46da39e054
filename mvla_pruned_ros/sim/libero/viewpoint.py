"""Frames of LIBERO's Panda and the poses of its cameras. Needs no simulator."""

from __future__ import annotations

from ...observation.frames import pose_of
from ..wiring import CameraMount, Wiring

WRIST_FRAME = "wrist_optical_frame"
JOINTS = tuple(f"panda_joint{number}" for number in range(1, 8))

# Of LIBERO's camera ``agentview``, which stands elsewhere in each suite: x y z, quaternion x y z w, base frame.
OUTSIDE = {
    "libero_object": ((1.496577, 0.0, 0.65), (0.618217, 0.618217, -0.343231, -0.343231)),
    "libero_spatial": ((1.318613, 0.0, 0.69835), (0.638018, 0.638018, -0.304850, -0.304850)),
}
# Of ``robot0_eye_in_hand`` in the frame of the end effector, which lies between the finger tips.
WRIST = CameraMount("image_1", WRIST_FRAME, pose_of((0.05, 0.0, -0.097), (0.0, 0.0, 0.5**0.5, 0.5**0.5)), on_hand=True)

# By suite.
WIRINGS = {
    suite: Wiring(f"{suite}/0", (CameraMount("image", f"{suite}_optical_frame", pose_of(*pose)), WRIST), JOINTS)
    for suite, pose in OUTSIDE.items()
}
