"""The beat of the commands, on a clock that the test moves."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

pytest.importorskip("rclpy", reason="no ROS here: the timer follows a clock of rclpy")

import rclpy
from rclpy.clock import Clock, ClockType
from rclpy.time import Time

from mvla_pruned_ros.node.command_timer import CommandTimer

PERIOD_NS = 12_500_000


class Beats:
    """A timer at 80 Hz on simulated time, and when it beat."""

    def __init__(self) -> None:
        self.clock: Any = Clock(clock_type=ClockType.ROS_TIME)
        self.clock._set_ros_time_is_active(True)
        self.now_ns = 10**9
        self.at(self.now_ns)
        self.beats: list[int] = []
        self.errors: list[Exception] = []
        self.rate_hz = 80.0
        self.raises = False
        self.timer = CommandTimer(self.clock, lambda: self.rate_hz, self._tick, self.errors.append)

    def _tick(self) -> None:
        self.beats.append(self.clock.now().nanoseconds)
        if self.raises:
            raise ValueError("bad beat")

    def at(self, now_ns: int) -> None:
        self.now_ns = now_ns
        self.clock.set_ros_time_override(Time(nanoseconds=now_ns, clock_type=ClockType.ROS_TIME))

    def until(self, condition: Callable[[], bool]) -> None:
        end = time.monotonic() + 20.0
        while not condition():
            assert time.monotonic() < end, self.beats
            time.sleep(0.001)

    def step(self, periods: float, expected: int) -> None:
        """Move the clock and wait for so many beats."""
        before = len(self.beats)
        self.at(self.now_ns + round(periods * PERIOD_NS))
        self.until(lambda: len(self.beats) >= before + expected)
        time.sleep(0.02)
        assert len(self.beats) == before + expected


@pytest.fixture
def beats() -> Iterator[Beats]:
    rclpy.init()
    made = Beats()
    made.until(lambda: len(made.beats) == 1)
    yield made
    made.timer.cancel()
    rclpy.try_shutdown()


def test_it_beats_once_a_period_of_the_nodes_clock(beats: Beats) -> None:
    for _ in range(5):
        beats.step(1, expected=1)
    beats.step(0.5, expected=0)
    beats.step(0.5, expected=1)


def test_it_stands_still_with_the_clock(beats: Beats) -> None:
    time.sleep(0.1)
    assert len(beats.beats) == 1


def test_missed_beats_are_left_out(beats: Beats) -> None:
    beats.step(20.5, expected=1)
    beats.step(0.5, expected=1)  # on the old grid


def test_when_the_clock_goes_back_it_beats_again_after_one_period(beats: Beats) -> None:
    beats.step(-60, expected=0)
    beats.step(1, expected=1)
    beats.step(1, expected=1)


def test_a_new_rate_holds_from_the_next_beat(beats: Beats) -> None:
    beats.rate_hz = 160.0
    beats.step(1, expected=1)
    beats.step(0.5, expected=1)
    beats.step(0.5, expected=1)


def test_a_beat_that_fails_is_not_the_last(beats: Beats) -> None:
    beats.raises = True
    beats.step(1, expected=1)
    beats.raises = False
    beats.step(1, expected=1)
    assert [str(error) for error in beats.errors] == ["bad beat"]


def test_nothing_beats_after_it_was_cancelled(beats: Beats) -> None:
    beats.timer.cancel()
    beats.step(10, expected=0)


def test_on_system_time_it_keeps_its_rate() -> None:
    rclpy.init()
    seen: list[float] = []
    timer = CommandTimer(
        Clock(clock_type=ClockType.ROS_TIME), lambda: 50.0, lambda: seen.append(time.monotonic()), print
    )
    end = time.monotonic() + 20.0
    while len(seen) < 25 and time.monotonic() < end:
        time.sleep(0.01)
    timer.cancel()
    rclpy.try_shutdown()
    assert len(seen) >= 25
    rate = (len(seen) - 1) / (seen[-1] - seen[0])
    assert 10 < rate < 51  # it leaves out what a busy computer makes it miss, and is never faster
