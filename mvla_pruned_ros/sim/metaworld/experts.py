"""An expert of our own where Meta-World's cannot be learnt from.

Its peg expert grips weakly, slips and lets go again at sharp thresholds of height: it succeeds in the end, but a policy
that imitates it averages over what it does on either side of a threshold and never pulls the plug (0 of 6).
"""

from __future__ import annotations

import numpy as np

GRASP = np.array([-0.015, 0.0, 0.015])  # end effector relative to the free end of the peg, m
GAIN = 10.0  # Meta-World's action (1 = 1 cm a step) per metre
CLOSED = 0.95  # gripper opening below which the peg is held


class PegUnplugExpert:
    """Come from above, close on the peg, pull straight out. A function of the state alone, smooth in position."""

    def get_action(self, state: np.ndarray) -> np.ndarray:
        """state: (39,) Meta-World observation -> (4,) action, to be clipped to [-1, 1]."""
        hand, opening, peg = state[:3], state[3], state[4:7]
        away = peg + GRASP - hand
        aside = float(np.linalg.norm(away[:2]))
        near = aside < 0.025 and abs(away[2]) < 0.02
        if near and opening < CLOSED:
            return np.array([0.5, away[1] * GAIN, away[2] * GAIN, 1.0])
        if not near:
            away[2] += min(0.12, max(0.0, 4.0 * (aside - 0.01)))  # the farther aside, the higher
        return np.append(away * GAIN, 1.0 if near else -1.0)


OWN_EXPERTS = {"peg-unplug-side": PegUnplugExpert}
