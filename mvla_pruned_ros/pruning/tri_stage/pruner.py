"""The tri-stage pruner (arXiv 2604.09244): modality salience, semantic sets, temporal dynamics, fused.

It decides before tokens are encoded and before the backbone runs, from evidence of earlier calls only:
norms of features set budgets, a few rows of attention rank tokens (norms rank them worse than chance).
"""

from __future__ import annotations

from collections import deque

import numpy as np

from ..base import check_keep_ratio, token_budget, top
from ..types import Evidence, Reason, Selection, SemanticSet, TokenLayout
from .config import TriStageConfig
from .modality import modality_share, split_budget
from .semantic import semantic_sets, unique_points
from .temporal import SalienceMemory, carry, longest_unseen, update


class TriStagePruner:
    """See the module. Every stage can be switched off in the configuration."""

    name = "tri_stage"
    bucket = 1

    def __init__(self, keep_ratio: float, config: TriStageConfig | None = None, seed: int = 0) -> None:
        self.keep_ratio = check_keep_ratio(keep_ratio)
        self.config = config or TriStageConfig()
        self._seed = seed
        self.reset()

    def reset(self) -> None:
        """Forget the episode; the next selection is full."""
        self._rng = np.random.default_rng(self._seed)
        self._memory: SalienceMemory | None = None
        self._predicted: SalienceMemory | None = None
        self._shares: deque[float] = deque(maxlen=100)

    def select(self, layout: TokenLayout) -> Selection:
        """Tokens for the call to come; all of them at keep ratio 1, on the first call, or when the grids changed."""
        memory = self._memory
        if memory is not None and memory.layout.grids != layout.grids:
            self.reset()
            memory = None
        if memory is None:
            return Selection.full(layout)
        config, lengths = self.config, self.config.lengths(layout.spacing)
        if config.stage_dynamics:
            predicted = carry(memory, layout, lengths)
        elif memory.layout.num_points == layout.num_points:
            predicted = SalienceMemory(layout, memory.salience, memory.age)
        else:
            return Selection.full(layout)
        self._predicted = predicted
        share = self._image_share()
        sets = (
            semantic_sets(layout, predicted.salience, lengths, config.object_threshold)
            if config.stage_semantic
            else None
        )
        details = {"sets": sets, "salience": predicted.salience.astype(np.float32), "image_share": share}
        if self.keep_ratio == 1:
            return Selection.full(layout, **details)
        reason = self._fuse(layout, predicted, sets, share)
        return Selection(reason, layout.num_image, **details)  # type: ignore[arg-type]

    def observe(self, layout: TokenLayout, selection: Selection, evidence: Evidence) -> None:
        """Learn from the call that was made with ``selection``."""
        if len(evidence.norm) != selection.num_kept:
            raise ValueError(f"evidence for {len(evidence.norm)} tokens, but {selection.num_kept} were kept")
        share = modality_share(evidence.norm, len(selection.image_kept))
        if not np.isnan(share):
            self._shares.append(share)
        config, memory = self.config, self._memory
        if memory is None or self._predicted is None or not config.stage_dynamics and selection.is_full:
            self._memory = SalienceMemory.seen(layout, evidence.attention)
            return
        smoothing = config.smoothing_after(layout.seconds_since(memory.layout)) if config.stage_dynamics else 1.0
        self._memory, new_segment = update(
            self._predicted, selection.kept, evidence.attention, smoothing, config.segment_threshold
        )
        if new_segment and config.stage_dynamics and not np.isnan(share):
            self._shares.clear()  # salience of the last segment does not speak for this one
            self._shares.append(share)

    def _image_share(self) -> float:
        if not self._shares:
            return float("nan")
        window = self.config.window if self.config.stage_dynamics else 1
        return float(np.mean(list(self._shares)[-window:]))

    def _fuse(
        self, layout: TokenLayout, predicted: SalienceMemory, sets: np.ndarray | None, share: float
    ) -> np.ndarray:
        """Reasons of all tokens, exactly the budget of them kept.

        Order of claims on the budget: returning tokens, a random sample of the background, the reserve of the robot,
        protected tokens that stage I would keep as well, other protected tokens, then stage I's candidates by
        salience. Where the two candidate sets do not meet, the protected ones stay (the paper falls back to one of
        them).
        """
        config, n2 = self.config, layout.num_image
        budget = token_budget(layout, self.keep_ratio, self.bucket)
        reason = np.zeros(layout.num_visual, np.int8)  # Reason.DROPPED
        free, room = np.ones(layout.num_visual, bool), budget

        def keep(indices: np.ndarray, why: Reason, limit: int) -> int:
            nonlocal room
            taken = indices[free[indices]][: max(0, min(limit, room))]
            reason[taken], free[taken] = int(why), False
            room -= len(taken)
            return len(taken)

        rank = predicted.salience.copy()
        if sets is not None:
            # Of equal salience, a point token that repeats what a kept patch tells is the one to miss least.
            rank[n2:][~unique_points(layout, predicted.salience)] *= 1 - config.overlap_discount
        if config.temperature:
            rank = _drawn(rank, config.temperature, self._rng)
        if config.stage_dynamics:
            count = round(config.return_share * budget)
            keep(longest_unseen(predicted.age, predicted.salience, count), Reason.RETURNED, count)
        candidates = self._modality_candidates(rank, n2, budget, share)
        order = np.lexsort((-rank, ~candidates))  # candidates of stage I first, then by rank
        if sets is not None:
            protected = sets != int(SemanticSet.BACKGROUND)
            background = np.flatnonzero(~protected)
            # The paper keeps 10 % of the background; at a small budget that would be all of it, so the share is
            # of the budget where that is less (ours).
            count = round(config.background_share * min(len(background), budget))
            keep(self._rng.permutation(background), Reason.BACKGROUND, count)
            limit = round(config.protected_share * budget)
            # Objects draw more attention than the arm: at small budgets no token of the gripper would be left.
            robot = order[sets[order] == int(SemanticSet.ROBOT)]
            count = keep(robot, Reason.PROTECTED, min(limit, round(config.robot_reserve * layout.num_visual)))
            keep(order[protected[order]], Reason.PROTECTED, limit - count)
        keep(order, Reason.SALIENT, budget)
        return reason

    def _modality_candidates(self, rank: np.ndarray, n2: int, budget: int, share: float) -> np.ndarray:
        """(N,) bool: what stage I would keep; without stage I the best of both modalities together."""
        candidates = np.zeros(len(rank), bool)
        if not self.config.stage_modality:
            candidates[top(rank, budget)] = True
            return candidates
        image, points = split_budget(budget, share, n2, len(rank) - n2, self.config.modality_floor)
        candidates[top(rank[:n2], image)] = True
        candidates[n2 + top(rank[n2:], points)] = True
        return candidates


def _drawn(salience: np.ndarray, temperature: float, rng: np.random.Generator) -> np.ndarray:
    """Ranks whose k greatest are k tokens drawn without replacement in proportion to salience ** (1 / temperature).

    The Gumbel top-k trick (Kool et al., 2019). Ours: a policy that learnt from random parts of its tokens expects
    neighbours of a kept token to be missing; the most salient ones lie side by side and tell it the same.
    """
    return np.log(np.maximum(salience, 1e-12)) / temperature + rng.gumbel(size=len(salience))
