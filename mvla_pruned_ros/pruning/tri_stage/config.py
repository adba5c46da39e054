"""Parameters of the tri-stage pruner. Each field says meaning, unit and bounds; the ROS node declares its
parameters from them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from ...configuration.fields import described, fields_of
from ...configuration.reader import from_entries, read_json

CALIBRATION_FILE = "pruning.json"
BY_SPACING = "0: by the spacing of the policy's tokens."


class Lengths(NamedTuple):
    """What is near, in metres.

    Attributes:
        robot: to the end effector, for a token of the robot. link: to one another, for two tokens of one thing.
        match: to a patch of the last call, for a patch that shows the same.
    """

    robot: float
    link: float
    match: float


# In multiples of the spacing of tokens. For the shipped ``small``, whose spacing is 5.2 cm, about what was found in
# metres: 0.1, 0.06 and 0.08.
LENGTHS = Lengths(robot=2.0, link=1.15, match=1.5)


@dataclass(frozen=True)
class TriStageConfig:
    """How the three stages decide. Values marked *ours* have no published counterpart (see docs/pruning.md)."""

    stage_modality: bool = described(
        False,
        "Stage I: split the budget between image and points by their salience. Off: it changed no measured row of the "
        "shipped policy; calibration turns it on for a policy that gains by it.",
    )
    stage_semantic: bool = described(True, "Stage II: protect robot and object tokens, sample the background.")
    stage_dynamics: bool = described(
        True, "Stage III: smooth and predict salience over calls, and let dropped tokens return."
    )
    modality_floor: float = described(
        0.2, "Least share of its own tokens, times the keep ratio, that a modality keeps (stage I).", 0.0, 1.0
    )
    robot_radius_m: float = described(
        0.0,
        "Tokens nearer to the end effector than this belong to the robot set and move with it (stages II and III), "
        f"metres. {BY_SPACING}",
        0.0,
        1.0,
    )
    link_m: float = described(
        0.0, f"Tokens nearer to one another than this belong to one thing (stage II), metres. {BY_SPACING}", 0.0, 1.0
    )
    match_m: float = described(
        0.0,
        "A patch inherits salience from the nearest patch of the last call, if that is nearer than this (stage III), "
        f"metres. {BY_SPACING}",
        0.0,
        1.0,
    )
    object_threshold: float = described(
        1.0,
        "A token off the support surface belongs to the object set when its salience is at least this multiple of "
        "the mean (stage II).",
        0.0,
        100.0,
    )
    protected_share: float = described(
        0.7, "Largest share of the budget that protected robot and object tokens may take (stage II).", 0.0, 1.0
    )
    robot_reserve: float = described(
        0.03,
        "Tokens set aside for the robot before objects, which draw more attention, take them all, as a share of all "
        "visual tokens of an unpruned call: a handful shows the gripper at any keep ratio (stage II).",
        0.0,
        1.0,
    )
    background_share: float = described(
        0.10, "Share of the background tokens that is kept at random (stage II; paper: 0.10).", 0.0, 1.0
    )
    overlap_discount: float = described(
        0.5, "How much a point token's rank suffers when a well-attended patch shows its spot too (stage II).", 0.0, 1.0
    )
    temperature: float = described(
        0.0,
        "0: of each set the tokens of greatest salience are kept. More: they are drawn, in proportion to salience to "
        "the power of 1 / temperature, which leaves fewer gaps. For policies that were trained with token dropout.",
        0.0,
        10.0,
    )
    smoothing: float = described(
        0.5, "Weight of the newest evidence in the moving average of salience (stage III).", 0.01, 1.0
    )
    smoothing_period_s: float = described(
        0.0,
        "Time between calls that smoothing is meant for, seconds: after twice the time the newest evidence counts as "
        "after two calls (stage III). 0: smoothing holds for every call, whatever the time between.",
        0.0,
        10.0,
    )
    window: int = described(4, "Policy calls over which the modality salience is averaged (stage III).", 1, 100)
    return_share: float = described(
        0.15, "Share of the budget that brings dropped tokens back, longest unseen first (stage III).", 0.0, 0.9
    )
    segment_threshold: float = described(
        0.35,
        "A new segment of the episode begins when the salience seen differs from that predicted by more than this "
        "(total variation, 0..1); its evidence then counts fully (stage III).",
        0.0,
        1.0,
    )

    @classmethod
    def load(cls, path: Path) -> TriStageConfig:
        """Read what ``mvla calibrate`` wrote.

        Raises:
            ValueError: not such a file, or a value is unknown, of a wrong type or out of bounds; names file and value.
        """
        try:
            return from_entries(cls, read_json(path)["tri_stage"], "parameter")
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"{path} is not a calibration file of `mvla calibrate`: {error}") from error

    @classmethod
    def of_policy(cls, folder: Path) -> TriStageConfig:
        """The calibration that lies in a policy folder (``pruning.json``), or the defaults where there is none."""
        path = folder / CALIBRATION_FILE
        return cls.load(path) if path.is_file() else cls()

    def lengths(self, spacing: float) -> Lengths:
        """Its lengths for tokens that lie ``spacing`` metres apart (``TokenLayout.spacing``)."""
        given = Lengths(self.robot_radius_m, self.link_m, self.match_m)
        return Lengths(*(metres or multiple * spacing for metres, multiple in zip(given, LENGTHS)))

    def smoothing_after(self, seconds: float | None) -> float:
        """Weight of evidence that comes so long after the last; None where that is not known."""
        if not self.smoothing_period_s or seconds is None:
            return self.smoothing
        return 1 - (1 - self.smoothing) ** (seconds / self.smoothing_period_s)

    def __post_init__(self) -> None:
        for name, field in fields_of(self).items():
            try:
                field.check(name, getattr(self, name))
            except ValueError as error:
                raise ValueError(f"{error}: {field.text}") from None
