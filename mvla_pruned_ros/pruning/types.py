"""What pruning is told and what it answers. Nothing here knows a policy or ROS.

Arrays have one entry per visual token of an unpruned call, image tokens (row by row) before point tokens in
everything that covers both.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np

from .in_call import InCallRule


@dataclass(frozen=True)
class TokenLayout:
    """Where the visual tokens of one call lie.

    Attributes:
        views: names of V views. grids: rows and columns of patches of each; the patches of a view follow those of the
            one before.
        image_positions: (N2, 3) float32, base frame, metres: mean of the workspace points a patch shows; NaN
            for a patch that shows none (background).
        point_positions: (N3, 3) float32, base frame, metres: centres of the point groups.
        point_patches: (V, N3) int, image token on which a centre projects in each view, -1 outside its image.
        camera_poses: (V, 4, 4) base_from_camera of each view.
        end_effector: (3,) float32, base frame, metres.
        spacing: metres between neighbouring tokens, about, as the policy's configuration has it and not this call: the
            scale that lengths are measured by. Positive.
        stamp_ns: of the observation; 0 where it is not known.
    """

    views: tuple[str, ...]
    grids: tuple[tuple[int, int], ...]
    image_positions: np.ndarray
    point_positions: np.ndarray
    point_patches: np.ndarray
    camera_poses: np.ndarray
    end_effector: np.ndarray
    spacing: float
    stamp_ns: int = 0

    @property
    def num_image(self) -> int:
        return len(self.image_positions)

    @property
    def view_slices(self) -> list[slice]:
        """Where the patches of each view stand among the image tokens."""
        ends = np.cumsum([rows * cols for rows, cols in self.grids]).tolist()
        return [slice(start, end) for start, end in zip([0, *ends], ends)]

    @property
    def num_points(self) -> int:
        return len(self.point_positions)

    @property
    def num_visual(self) -> int:
        return self.num_image + self.num_points

    def seconds_since(self, earlier: TokenLayout) -> float | None:
        """Time between two observations; None where it is not known, or not positive."""
        after = self.stamp_ns - earlier.stamp_ns
        return after / 1e9 if self.stamp_ns and earlier.stamp_ns and after > 0 else None

    @property
    def positions(self) -> np.ndarray:
        """(N2 + N3, 3) positions of all visual tokens."""
        return np.concatenate([self.image_positions, self.point_positions])


class SemanticSet(enum.IntEnum):
    """Which part of the scene a token shows (stage II)."""

    BACKGROUND = 0
    ROBOT = 1
    OBJECT = 2


class Reason(enum.IntEnum):
    """Why a token stays, or that it does not."""

    DROPPED = 0
    FULL = 1  # everything stays: no pruning, first call, refresh
    SALIENT = 2  # ranked into the budget by salience
    PROTECTED = 3  # belongs to the robot or object set
    BACKGROUND = 4  # random sample of the background
    RETURNED = 5  # dropped before, brought back to be seen again
    CHOSEN = 6  # picked by a method that gives no reason per token (random, say)


REASON_NAMES = tuple(reason.name.lower() for reason in Reason)


@dataclass(frozen=True)
class Selection:
    """Which visual tokens stay, and why.

    Attributes:
        reason: (N2 + N3,) int8 of ``Reason``.
        num_image: N2.
        sets: (N2 + N3,) int8 of ``SemanticSet``, or None when stage II did not run.
        salience: (N2 + N3,) float32, predicted share of attention, or None when nothing was predicted.
        image_share: alpha of stage I, salience of 2D over that of 2D and 3D; NaN when unknown.
        rule: drops more tokens inside the call; None once that has been done, or when there is nothing to do.
        computed: visual tokens that the backbone ran on, mean over its layers, where a rule let some go between them;
            None: those that stay, in every layer.
    """

    reason: np.ndarray
    num_image: int
    sets: np.ndarray | None = None
    salience: np.ndarray | None = None
    image_share: float = float("nan")
    rule: InCallRule | None = None
    computed: float | None = None

    @cached_property
    def kept(self) -> np.ndarray:
        """(N2 + N3,) bool."""
        return self.reason != int(Reason.DROPPED)

    @cached_property
    def num_kept(self) -> int:
        """Visual tokens that stay."""
        return int(np.count_nonzero(self.reason))

    @cached_property
    def image_kept(self) -> np.ndarray:
        """Indices of the image tokens that stay, ascending."""
        return np.flatnonzero(self.kept[: self.num_image])

    @cached_property
    def points_kept(self) -> np.ndarray:
        """Indices of the point tokens that stay, ascending."""
        return np.flatnonzero(self.kept[self.num_image :])

    @property
    def keep_ratio(self) -> float:
        """Visual tokens kept / visual tokens in."""
        return self.num_kept / len(self.reason)

    @property
    def spent_ratio(self) -> float:
        """Visual tokens that the backbone ran on / visual tokens in, mean over its layers: what the call cost. Above
        ``keep_ratio`` where tokens left between layers."""
        return (self.num_kept if self.computed is None else self.computed) / len(self.reason)

    @property
    def is_full(self) -> bool:
        return self.num_kept == len(self.reason)

    def after_rule(self, chosen: np.ndarray | None, computed: float | None = None) -> Selection:
        """This selection once its rule has chosen.

        Args:
            chosen: indices into the tokens that were kept so far; None: all of them stay. computed: see ``Selection``.
        """
        if chosen is None:
            return replace(self, rule=None, computed=computed)
        reason = np.full(len(self.reason), Reason.DROPPED, np.int8)
        reason[np.flatnonzero(self.kept)[chosen]] = Reason.CHOSEN
        return replace(self, reason=reason, rule=None, computed=computed)

    @classmethod
    def full(cls, layout: TokenLayout, **details: object) -> Selection:
        """Everything stays."""
        reason = np.full(layout.num_visual, Reason.FULL, np.int8)
        return cls(reason, layout.num_image, **details)  # type: ignore[arg-type]


@dataclass(frozen=True)
class Evidence:
    """What a policy call showed about the tokens that were in it.

    Attributes:
        norm: (M,) float32, mean absolute feature with which each kept visual token enters the last layer, image tokens
            first, in the order of the selection.
        attention: (M,) float32, attention that the action tokens paid to each, mean over rows, heads and the
            evidence layers; sums to at most 1.
    """

    norm: np.ndarray
    attention: np.ndarray

    def __post_init__(self) -> None:
        if self.norm.shape != self.attention.shape or self.norm.ndim != 1:
            raise ValueError(f"evidence shapes differ: norm {self.norm.shape}, attention {self.attention.shape}")

    def not_finite(self) -> list[str]:
        """Names of what holds NaN or Inf."""
        return [name for name in ("norm", "attention") if not np.isfinite(getattr(self, name)).all()]


@dataclass
class PruningStats:
    """Counts of one selection, for diagnostics."""

    image_in: int = 0
    image_kept: int = 0
    points_in: int = 0
    points_kept: int = 0
    by_reason: dict[str, int] = field(default_factory=dict)

    @classmethod
    def of(cls, selection: Selection) -> PruningStats:
        counts = np.bincount(selection.reason, minlength=len(Reason)).tolist()
        image_kept, n2 = len(selection.image_kept), selection.num_image
        return cls(
            image_in=n2,
            image_kept=image_kept,
            points_in=len(selection.reason) - n2,
            points_kept=selection.num_kept - image_kept,
            by_reason=dict(zip(REASON_NAMES, counts)),
        )
