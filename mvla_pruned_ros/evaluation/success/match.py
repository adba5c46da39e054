"""Equal spending: which keep ratio to ask for, so that a method really spends a given one.

Methods differ in what they do with a keep ratio: some make several full calls first, some gate, some drop layer by
layer. Compared at the same number *asked*, they are compared at different costs.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from .rollout import Episode
from .rows import row
from .sweep import Setting

TOLERANCE = 0.01
LEAST, MOST = 0.05, 1.0  # that may be asked for
ROUNDS = 8
PROBE_SEED, PROBE_EPISODES = 500_000, 3  # of calibration: evaluation uses seeds below


@dataclass
class Search:
    """Bisection for one task and method: what is spent rises with what is asked for.

    Attributes:
        target: ``keep_steady`` wanted. asked: keep ratio to try next, or the one found. spent: what the last try spent.
    """

    target: float
    asked: float = 0.0
    spent: float | None = None
    _low: float = LEAST
    _high: float = MOST
    _tried: set[float] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.asked = max(LEAST, self.target)

    @property
    def found(self) -> bool:
        """Whether the last try spent what is wanted."""
        return self.spent is not None and abs(self.spent - self.target) <= TOLERANCE

    @property
    def hopeless(self) -> bool:
        """Whether there is nothing left to try: the method's floor is above the target, or it jumps over it."""
        return not self.found and self.asked in self._tried

    def take(self, spent: float) -> None:
        """What ``asked`` spent; chooses the next one."""
        self._tried.add(self.asked)
        self.spent = spent
        if self.found:
            return
        if spent > self.target:
            self._high = self.asked
        else:
            self._low = self.asked
        # In proportion first, which is right for most; in the middle where that leaves the bracket.
        guess = self.asked * self.target / max(spent, 1e-3)
        inside = self._low < guess < self._high
        if spent > self.target and LEAST not in self._tried and guess <= LEAST:
            guess, inside = LEAST, True
        self.asked = round(guess if inside else (self._low + self._high) / 2, 3)


def match_keep(
    settings: Sequence[Setting], target: float, measure: Callable[[list[Setting]], dict[Setting, list[Episode]]]
) -> tuple[list[Setting], list[str]]:
    """Settings with the keep ratio that spends ``target`` within ``TOLERANCE``, on the mean of a few probe episodes.

    Args:
        settings: one for each task and method; their keep ratios are left aside. target: of ``keep_steady``.
        measure: probe episodes of settings.

    Returns:
        The settings that can, in order; and a line for each that cannot, with the least it spends.
    """
    searches = {setting: Search(target) for setting in settings}
    for _ in range(ROUNDS):
        trials = {
            dataclasses.replace(setting, keep=search.asked): search
            for setting, search in searches.items()
            if not search.found and not search.hopeless
        }
        if not trials:
            break
        for trial, episodes in measure(list(trials)).items():
            spent = row(trial, episodes, trial.pruning).keep_steady
            trials[trial].take(1.0 if spent is None else spent)
    matched, left_out = [], []
    for setting, search in searches.items():
        if search.found:
            matched.append(dataclasses.replace(setting, keep=search.asked, match_steady=target))
        else:
            left_out.append(
                f"{setting.task} {setting.method}: no keep ratio from {LEAST:g} on spends {target:g}; the nearest "
                f"spent {search.spent:.3f}"
            )
    return matched, left_out
