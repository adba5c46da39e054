"""Soak runs: which late commands are the machine's, growth of memory, and a short run over the real graph."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from mvla_pruned_ros.rigs.soak.deadlines import Stalls, judge_deadlines, judge_stops
from mvla_pruned_ros.rigs.soak.memory import ProcessRecord, growth

PERIOD_S = 0.0125


def stalls(*windows: tuple[float, float]) -> Stalls:
    return Stalls.of(np.array(windows, float).reshape(-1, 2))


def arrivals(*gaps_s: float) -> np.ndarray:
    """Ten commands on time, and then one after each gap."""
    return np.cumsum([0.0, *[PERIOD_S] * 9, *gaps_s])


def test_time_in_stalls_is_that_of_the_overlap() -> None:
    some = stalls((1.0, 1.5), (2.0, 2.1), (5.0, 6.0))
    starts, ends = np.array([0.0, 1.2, 1.9, 1.6, 5.5]), np.array([0.5, 2.05, 7.0, 1.9, 5.75])
    assert some.within(starts, ends) == pytest.approx([0.0, 0.35, 1.1, 0.0, 0.25])
    assert Stalls().within(starts, ends).tolist() == [0] * 5


def test_windows_that_overlap_become_one() -> None:
    some = stalls((5.0, 6.0), (1.0, 3.0), (1.5, 2.0), (2.5, 4.0))
    assert (some.starts.tolist(), some.ends.tolist()) == ([1.0, 5.0], [4.0, 6.0])


def test_a_command_within_two_periods_is_in_time() -> None:
    judged = judge_deadlines(arrivals(2 * PERIOD_S - 1e-9), PERIOD_S, Stalls())
    assert (judged.met, judged.missed, judged.share) == (10, 0, 1.0)


def test_an_outage_weighs_as_long_as_it_lasts() -> None:
    judged = judge_deadlines(arrivals(2.5 * PERIOD_S, PERIOD_S, 1.0), PERIOD_S, Stalls())
    assert judged.met == 10 and judged.missed == 1 + 78
    assert judged.share == pytest.approx(10 / 89)
    assert judged.share_without_stalls == judged.share


@pytest.mark.parametrize(
    ("stalled_ms", "excused"),
    [
        (30.0, False),  # half of the 50 ms by which it was late is not enough: 70 ms would be left, 25 are allowed
        (40.0, True),
        (62.5, True),
    ],
)
def test_late_command_is_the_machines_when_without_the_stall_it_had_come_in_time(
    stalled_ms: float, excused: bool
) -> None:
    times = arrivals(5 * PERIOD_S)  # 50 ms later than it should
    judged = judge_deadlines(times, PERIOD_S, stalls((times[-2], times[-2] + stalled_ms / 1e3)))
    assert judged.missed == 3 and judged.missed_by_stall == 3 * excused
    assert judged.share == 9 / 12 and judged.share_without_stalls == (1.0 if excused else 9 / 12)


def test_a_small_stall_does_not_excuse_a_command_that_was_late_by_a_little_more() -> None:
    times = arrivals(2.1 * PERIOD_S)  # 13.75 ms late, 1.25 beyond what is allowed
    assert judge_deadlines(times, PERIOD_S, stalls((times[-2], times[-2] + 0.004))).missed_by_stall == 0
    assert judge_deadlines(times, PERIOD_S, stalls((times[-2], times[-2] + 0.007))).missed_by_stall == 1


def test_a_stall_at_another_moment_excuses_nothing() -> None:
    times = arrivals(5 * PERIOD_S, PERIOD_S)
    judged = judge_deadlines(times, PERIOD_S, stalls((times[2], times[2] + 0.05), (times[-2] + 0.001, times[-1])))
    assert judged.missed == 3 and judged.missed_by_stall == 0


def test_too_few_commands_are_no_run() -> None:
    with pytest.raises(ValueError, match="1 commands came"):
        judge_deadlines(np.array([1.0]), PERIOD_S, Stalls())


def test_stops_are_told_apart_by_cause() -> None:
    times = np.arange(400) * 0.01
    safe = np.zeros(400, bool)
    safe[:5] = True  # before the first action: no stop
    for begin in (100, 200, 300):
        safe[begin : begin + 10] = True  # 0.1 s each
    judged = judge_stops(times, safe, 0.3, stalls((0.85, 0.97)), stalls((1.75, 1.9)))
    assert judged.starts == pytest.approx([1.0, 2.0, 3.0]) and judged.ends == pytest.approx([1.1, 2.1, 3.1])
    assert judged.by_stall.tolist() == [True, False, False]
    assert judged.by_sensor.tolist() == [False, True, False]
    assert judged.false_stops == 1


def test_a_stop_that_never_ends_is_counted() -> None:
    times = np.arange(100) * 0.01
    judged = judge_stops(times, times > 0.5, 0.3, Stalls(), Stalls())
    assert judged.false_stops == 1 and judged.ends.tolist() == [times[-1]]


def test_growth_of_a_straight_line_is_found_and_a_spike_is_not_growth() -> None:
    time_s = np.arange(0.0, 1800.0)
    grown = growth(time_s, 400 + 40 * time_s / 1799)
    assert grown["fit_percent"] == pytest.approx(10.0) and grown["fit_percent_per_hour"] == pytest.approx(
        20.0, rel=1e-2
    )
    assert grown["tenths_percent"] == pytest.approx(100 * (438 / 402 - 1), abs=0.01)
    level = np.full(1800, 400.0)
    level[-3:] = 900
    assert growth(time_s, level)["tenths_percent"] == 0
    with pytest.raises(ValueError, match="at least two times"):
        growth([1.0], [2.0])


def test_record_of_a_process_sees_what_it_takes() -> None:
    record = ProcessRecord(os.getpid())
    record.sample(0.0)
    block = np.ones(40 * 2**20, np.uint8)
    with open(os.devnull) as file:
        record.sample(1.0)
    assert record.anonymous_mb[1] - record.anonymous_mb[0] == pytest.approx(len(block) / 2**20, abs=8)
    assert record.rss_mb[1] > record.rss_mb[0] and record.files[1] == record.files[0] + 1 and file.closed


def test_recorder_notices_that_it_could_not_run(tmp_path: Path) -> None:
    """Stopped and continued, it is late by the time between."""
    import signal

    path = tmp_path / "stalls.txt"
    with subprocess.Popen([sys.executable, "-m", "mvla_pruned_ros.rigs.soak.stall_recorder", str(path)]) as recorder:
        while not path.exists():
            time.sleep(0.01)
        time.sleep(0.3)
        begin = time.monotonic()
        recorder.send_signal(signal.SIGSTOP)
        time.sleep(0.3)
        recorder.send_signal(signal.SIGCONT)
        time.sleep(0.3)
        end = time.monotonic()
        recorder.terminate()
    found = Stalls.read(path)
    longest = int(np.argmax(found.ends - found.starts))
    assert begin - 0.1 < found.starts[longest] < found.ends[longest] < end
    assert found.ends[longest] - found.starts[longest] > 0.25


def test_recorder_imports_nothing_heavy() -> None:
    """What it shares with the nodes may be the machine alone."""
    code = (
        "import sys, mvla_pruned_ros.rigs.soak.stall_recorder\n"
        "print(sorted(set(sys.modules) & {'numpy', 'torch', 'rclpy'}))"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


def test_a_view_is_the_policy_nodes_own(tmp_path: Path) -> None:
    pytest.importorskip("rclpy", reason="no ROS here: commands need a graph")
    from mvla_pruned_ros.rigs.soak.runner import SoakOptions

    given = SoakOptions(tmp_path / "soak.json", view="out/soak.rrd").node_parameters()
    assert given["view"] == "out/soak.rrd" and SoakOptions(tmp_path / "soak.json").node_parameters()["view"] == ""


def test_a_short_run_over_the_real_graph(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("rclpy", reason="no ROS here: commands need a graph")
    from mvla_pruned_ros.cli.main import main

    out = tmp_path / "soak.json"
    assert main(["soak", "--minutes", "0.2", "--device", "cpu", "--keep", "0.3", "--json", str(out)]) == 0
    report = json.loads(out.read_text())
    numbers, curves = report["figures"], report["curves"]
    assert numbers["seconds"] == pytest.approx(12.0, abs=2.0)
    assert numbers["commands"] > 50 and numbers["policy_calls"] >= 1
    for name in ("deadlines", "deadlines_by_stamp"):
        judged = numbers[name]
        assert judged["missed"] >= judged["missed_while_machine_stalled"] >= 0
        assert 0 <= judged["share_percent"] <= judged["share_percent_without_machine_stalls"] <= 100
    assert numbers["counters"]["commands_sent"] == pytest.approx(numbers["commands"], rel=0.5)
    node = numbers["node"]
    assert node["rss_mb"]["first_tenth"] > 200  # torch and Open3D are in it: the process that was watched is the node
    assert node["threads"]["first_tenth"] >= 5 and node["files"]["first_tenth"] >= 5
    assert len(curves["memory"]["time_s"]) == len(curves["memory"]["rss_mb"]) >= 5
    page = out.with_suffix(".html").read_text()
    assert "Intervals between commands" in page and "Plotly.newPlot" in page and 'src="http' not in page
    assert "deadlines met" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--minutes", "0"], "--minutes: must be a number in [0.1, "),
        (["--command-rate", "0"], "--command-rate: must be a number in [1, 1000] Hz"),
    ],
)
def test_impossible_arguments_are_named(
    arguments: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("rclpy", reason="no ROS here: commands need a graph")
    from mvla_pruned_ros.cli.main import main

    assert main(["soak", "--json", str(tmp_path / "soak.json"), *arguments]) == 2
    assert message in capsys.readouterr().err
