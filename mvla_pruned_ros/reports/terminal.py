"""Progress bars and tables for the terminal."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from rich import progress
from rich.table import Table


class ProgressBar(progress.Progress):
    """The progress of one task. Use as a context manager."""

    def __init__(
        self, text: str, total: float | None = None, done: int = 0, *, counted: bool = True, **options: Any
    ) -> None:
        """
        Args:
            text: before the bar. total: steps or seconds, None while unknown. done: of them before the start.
            counted: show the numbers of steps. options: of ``Progress``.
        """
        columns: list[progress.ProgressColumn] = [progress.TextColumn("{task.description}"), progress.BarColumn()]
        if counted:
            columns.append(progress.MofNCompleteColumn())
        columns += [progress.TimeElapsedColumn(), progress.TimeRemainingColumn()]
        super().__init__(*columns, progress.TextColumn("{task.fields[note]}"), **options)
        self._bar = self.add_task(text, total=total, completed=done, note="")

    def show(self, done: float, total: float | None = None, note: str = "") -> None:
        """Set how much is done. total: None leaves it as it is. note: behind the bar."""
        self.update(self._bar, completed=done, total=total, note=note, refresh=not self.live.auto_refresh)

    def step(self, text: str | None = None) -> None:
        """One step more is done. text: before the bar from now on; None leaves it as it is."""
        self.update(self._bar, advance=1, description=text)

    def label(self, text: str) -> None:
        """Change the text before the bar."""
        self.update(self._bar, description=text)


def table(
    title: str | None, header: Sequence[str], *groups: Iterable[Sequence[str]], left: int = 1, **options: Any
) -> Table:
    """A table with lines between groups of rows.

    Args:
        left: so many columns are words, the others numbers. options: of rich's ``Table``.
    """
    drawn = Table(title=title, **{"title_justify": "left", **options})
    for i, name in enumerate(header):
        drawn.add_column(name, justify="left" if i < left else "right")
    for group in groups:
        for row in group:
            drawn.add_row(*row)
        drawn.add_section()
    return drawn
