"""What is shown of policy calls, read back from the file; what happens when it cannot be shown. No ROS."""

from __future__ import annotations

import importlib.util
import json
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from bags import write_bag
from conftest import make_observation
from rerun_files import logged, rerun, rows_of
from waiting import wait_for

from mvla_pruned_ros import PolicyRuntime, load_policy, make_pruner
from mvla_pruned_ros.cli.main import main
from mvla_pruned_ros.control.action_spaces import ActionForm
from mvla_pruned_ros.control.motions import path_of
from mvla_pruned_ros.types import ActionChunk
from mvla_pruned_ros.viewer import live, program, target
from mvla_pruned_ros.viewer.calls import Call, Status
from mvla_pruned_ros.viewer.live import LiveView

ROOT = Path(__file__).parent.parent
PUSH = "push the puck to the goal"
PATIENCE_S = 10.0  # Rerun is imported meanwhile


@pytest.fixture(scope="module")
def calls(tiny_policy_folder: Path) -> list[Call]:
    policy = load_policy(tiny_policy_folder)
    runtime = PolicyRuntime(policy, make_pruner("tri_stage", keep_ratio=0.4))
    observations = [make_observation(seed=i, stamp_ns=10**9 + i * 100_000_000) for i in range(4)]
    return [Call(each, runtime.infer(each), 10.0 + i) for i, each in enumerate(observations)]


@pytest.fixture
def slow_start(monkeypatch: pytest.MonkeyPatch) -> Iterator[threading.Event]:
    """Until it is set, the viewer does not come up; then it fails."""
    ready = threading.Event()

    def open_recording(target: str, endless: bool) -> Any:
        assert ready.wait(20)
        raise RuntimeError("no display")

    monkeypatch.setattr(live, "open_recording", open_recording)
    yield ready
    ready.set()


@rerun
def test_file_has_every_entity_of_every_call(calls: list[Call], tmp_path: Path) -> None:
    file = tmp_path / "new" / "run.rrd"
    view = LiveView(str(file), ActionForm())
    assert wait_for(file.exists, PATIENCE_S)
    for call in calls:
        view.put(call)
    for message in ("no instruction", "no instruction", "running"):
        view.put(Status(2 * 10**9, "WARN" if message[0] == "n" else "OK", message, {"commands_sent": 3}))
    view.close()
    assert (view.failure, view.dropped) == ("", 0)
    rows = rows_of(file)
    camera, stages = "/world/cameras/image", ("policy", *calls[0].inference.stage_ms, "image_to_actions")
    every = [camera, f"{camera}/image", f"{camera}/image/colour", f"{camera}/image/patches", "/world/end_effector",
             "/world/actions", "/world/cloud/salience", "/world/cloud/set", "/world/points/kept",
             "/world/points/dropped", "/tokens/in", "/tokens/image_kept", "/tokens/points_kept", "/share/kept_2d",
             "/share/kept_3d", *(f"/latency_ms/{stage}" for stage in stages)]  # fmt: skip
    assert {entity: rows[entity] for entity in every} == dict.fromkeys(every, 4)
    assert rows["/share/salience_2d"] == rows["/splices/jump"] == 3, "nothing is predicted for the first call"
    assert rows["/diagnostics"] == 2 and rows["/commands/commands_sent"] == 3
    assert rows["/world/cloud"] == rows["/world/cameras"] == 1
    done = subprocess.run(
        [sys.executable, "-m", "rerun_cli", "rrd", "verify", str(file)], env=program.environment(), capture_output=True
    )
    assert done.returncode == 0, done.stderr


@rerun
def test_of_a_fast_policy_ten_calls_a_second_are_drawn(calls: list[Call], tmp_path: Path) -> None:
    """Each with its place among all calls and its distance from the one right before it."""
    file = tmp_path / "run.rrd"
    view = LiveView(str(file), ActionForm())
    fast = [
        replace(call, observation=replace(call.observation, stamp_ns=10**9 + 30_000_000 * (4 * i + k)))
        for i, call in enumerate(calls)
        for k in range(4)
    ]
    for call in fast:
        view.put(call)
        time.sleep(0.02)  # none is dropped
    view.close()
    assert (view.failure, view.dropped) == ("", 0)
    rows = rows_of(file)
    assert rows["/latency_ms/policy"] == rows["/world/cloud/set"] == 6
    jumps = [jump for (jump,) in logged(file, "/splices/jump", "scalars")]
    assert jumps[0] == 0.0, "the third call is as the second"
    assert rows["/splices/jump"] == 5


@rerun
def test_what_is_logged_is_what_was_decided(calls: list[Call], tmp_path: Path) -> None:
    file = tmp_path / "run.rrd"
    with target.showing(str(file), ActionForm()) as show:
        for call in calls:
            show(call)
    inference = calls[-1].inference
    selection, layout, chunk = inference.selection, inference.layout, inference.chunk
    kept = logged(file, "/world/points/kept", "positions")[-1]
    np.testing.assert_allclose(kept, layout.point_positions[selection.points_kept])
    way = logged(file, "/world/actions", "strips")[-1][0]
    np.testing.assert_allclose(way[0], chunk.origin, atol=1e-6)
    np.testing.assert_allclose(way[-1], chunk.origin + chunk.actions[:, :3].sum(0) * chunk.step_s, atol=1e-5)
    scalars = [value for (value,) in logged(file, "/latency_ms/policy", "scalars")]
    assert scalars == [call.inference.policy_ms for call in calls]
    classes = set(np.concatenate(logged(file, "/world/cloud/set", "class_ids")).tolist())
    assert selection.sets is not None and classes <= {0, 1, 2} and 1 in classes
    patches = np.frombuffer(bytes(logged(file, "/world/cameras/image/image/patches", "buffer")[-1][0]), np.uint8)
    grid = layout.grids[0]
    edge = round(len(patches) ** 0.5)
    corners = patches.reshape(edge, edge)[:: edge // grid[0], :: edge // grid[1]]
    np.testing.assert_array_equal(corners.ravel(), selection.reason[: selection.num_image])


@pytest.mark.parametrize(
    ("form", "actions", "path"),
    [
        (ActionForm(), [[1, 0, 0, 1], [0, 2, 0, 1]], [[0, 0, 1], [0.1, 0, 1], [0.1, 0.2, 1]]),
        (ActionForm("cartesian_delta"), [[0.1, 0, 0, 1], [0, 0.2, 0, 1]], [[0, 0, 1], [0.1, 0, 1], [0.1, 0.2, 1]]),
        # The tool's x axis is the base's y axis.
        (ActionForm("cartesian_velocity", frame="tool"), [[1, 0, 0, 1]], [[0, 0, 1], [0, 0.1, 1]]),
        (
            ActionForm("cartesian_pose", "rotation_6d", position="step"),
            [[0.1, 0, 0, 1, 0, 0, 0, 1, 0, 1]] * 2,
            [[0, 0, 1], [0.1, 0, 1], [0.2, 0, 1]],
        ),
        (ActionForm("joint_velocity"), [[1, 0, 0, 1]], None),
    ],
)
def test_path_leads_where_the_actions_do(form: ActionForm, actions: list[Any], path: list[Any] | None) -> None:
    chunk = ActionChunk(0, 0.1, np.array(actions, np.float32), np.array([0.0, 0, 1]))
    found = path_of(chunk, form, np.array([0, 0, np.sqrt(0.5), np.sqrt(0.5)]))
    if path is None:
        assert found is None
    else:
        np.testing.assert_allclose(found, path, atol=1e-6)
    if form.frame == "tool":
        assert path_of(chunk, form) is None, "nobody knows how it stands"


def test_nobody_waits_for_a_view_and_the_newest_is_drawn(
    calls: list[Call], slow_start: threading.Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(live, "JOIN_S", 0.1)
    view = LiveView("spawn", ActionForm())
    start = time.monotonic()
    statuses = [Status(i, "OK", str(i)) for i in range(1000)]
    for status in statuses:
        view.put(status)
    assert time.monotonic() - start < 0.5
    assert view.dropped == 1000 - live.WAITING and list(view._waiting) == statuses[-live.WAITING :]
    start = time.monotonic()
    view.close()
    assert time.monotonic() - start < 1.0, "a viewer that does not come up holds nobody up"
    slow_start.set()
    assert wait_for(lambda: view.failure == "RuntimeError: no display", PATIENCE_S)
    view.put(statuses[0])
    assert wait_for(lambda: view.dropped == 1001, PATIENCE_S), "all that waited, and what came after"


@rerun
def test_one_call_that_cannot_be_drawn_does_not_end_the_view(calls: list[Call], tmp_path: Path) -> None:
    view = LiveView(str(tmp_path / "run.rrd"), ActionForm("cartesian_pose", "rotation_6d"))  # not of these actions
    for call in calls:
        view.put(call)
    view.put(Status(1, "OK", "running"))
    view.close()
    assert view.dropped == 4
    assert rows_of(tmp_path / "run.rrd")["/diagnostics"] == 1


@rerun
def test_a_file_that_cannot_be_written_is_a_failure_of_the_view_alone(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    view = LiveView(str(tmp_path / "file" / "run.rrd"), ActionForm())
    assert wait_for(lambda: view.failure, PATIENCE_S)
    assert "file" in view.failure
    view.close()


def test_what_cannot_be_is_refused_with_the_remedy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert target.check_target("") == ""
    with pytest.raises(ValueError, match=r"view is 'yes': give spawn for a window, or a file that ends in \.rrd"):
        target.check_target("yes")
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "rerun_bindings" else find(name))
    assert main(["replay", str(tmp_path), "--view", str(tmp_path / "a.rrd")]) == 2
    error = capsys.readouterr().err
    assert 'pip install "mvla_pruned_ros[view]"' in error or "Python 3.11" in error
    assert error.startswith("mvla replay: error: argument --view: ") and error.count("\n") == 1


@pytest.fixture(scope="module")
def bag(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("view") / "bag"
    write_bag(folder, [PUSH, *(make_observation(seed=i, stamp_ns=10**9 + i * 50_000_000) for i in range(4))])
    return folder


# Replays a bag without a view and with one, and says whether Rerun was imported after either, and which sockets of the
# internet the process had meanwhile.
REPLAYS = """
import json, os, sys, threading
from mvla_pruned_ros.cli.main import main
found, over = set(), threading.Event()
def look():
    while not over.wait(0.005):
        ours = set()
        for fd in os.listdir("/proc/self/fd"):
            try:
                ours.add(os.readlink(f"/proc/self/fd/{fd}"))
            except OSError:
                pass
        for kind in ("tcp", "tcp6", "udp", "udp6"):
            for line in open(f"/proc/self/net/{kind}").readlines()[1:]:
                words = line.split()
                if f"socket:[{words[9]}]" in ours:
                    found.add(f"{kind} {words[1]} {words[2]}")
thread = threading.Thread(target=look)
thread.start()
*arguments, file = sys.argv[1:]
codes, imported = [], []
for more in ([], ["--view", file]):
    codes.append(main([*arguments, *more]))
    imported.append("rerun" in sys.modules)
over.set()
thread.join()
print(json.dumps([codes, imported, sorted(found)]))
"""


@rerun
def test_replay_imports_rerun_only_for_a_view_and_says_nothing_to_anyone(
    bag: Path, tiny_policy_folder: Path, tmp_path: Path
) -> None:
    home, file, out = tmp_path / "home", tmp_path / "bag.rrd", tmp_path / "replay"
    home.mkdir()
    hidden = {name: value for name, value in os.environ.items() if not name.startswith("XDG_")}
    words = ["replay", str(bag), "--policy", str(tiny_policy_folder), "--no-annotated", "--out", str(out), str(file)]
    done = subprocess.run(
        [sys.executable, "-c", REPLAYS, *words], capture_output=True, text=True, cwd=ROOT,
        env={**hidden, "HOME": str(home)},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    codes, imported, sockets = json.loads(done.stdout.splitlines()[-1])
    assert codes == [0, 0], done.stderr
    assert imported == [False, True] and sockets == []
    assert [path for path in home.rglob("*") if path.is_file()] == []
    rows, frames = rows_of(file), json.loads((out / "replay.json").read_text())["frames"]
    assert frames and rows["/world/actions"] == rows["/tokens/in"] == frames
    assert rows["/latency_ms/image_to_actions"] == 0, "there was no camera"


def sockets_of_session(session: int) -> set[str]:
    """Local and remote addresses (as /proc has them) of the sockets of all processes of a session."""
    ours = set()
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if os.getsid(int(folder.name)) == session:
                ours |= {os.readlink(link) for link in (folder / "fd").iterdir()}
        except OSError:
            continue
    lines = [line.split() for kind in ("tcp", "tcp6", "udp", "udp6")
             for line in Path(f"/proc/net/{kind}").read_text().splitlines()[1:]]  # fmt: skip
    return {address for words in lines if f"socket:[{words[9]}]" in ours for address in words[1:3]}


@rerun
def test_viewer_listens_on_this_computer_alone_and_its_end_is_noticed(
    calls: list[Call], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    monkeypatch.setattr(program, "PORT", port)
    monkeypatch.setattr(program, "URL", f"rerun+http://127.0.0.1:{port}/proxy")
    monkeypatch.setattr(live, "LOOK_S", 0.1)
    monkeypatch.setenv("HOME", str(tmp_path))
    shown = tmp_path.parent / f"{tmp_path.name}.rrd"
    viewer = program.start_viewer("--save", str(shown))  # the same program, without its window
    assert viewer is not None and program.start_viewer() is None, "one that is open is used"
    try:
        view = LiveView("spawn", ActionForm())
        seen: set[str] = set()
        for _ in range(3):
            for call in calls:
                view.put(call)
                seen |= sockets_of_session(viewer.pid)
            assert wait_for(lambda: not view._waiting, PATIENCE_S)
        assert view.failure == "" and view.dropped == 0
        assert seen and {address.split(":")[0] for address in seen} <= {"0100007F", "00000000"}
        assert f"0100007F:{port:04X}" in seen and f"00000000:{port:04X}" not in seen
    finally:
        os.killpg(viewer.pid, 9)
        viewer.wait()
    assert wait_for(lambda: view.put(calls[0]) or "the viewer was closed" in view.failure, PATIENCE_S)
    start = time.monotonic()
    view.close()
    assert time.monotonic() - start < live.JOIN_S + 0.5
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []
    with pytest.warns(match="no footer"):  # the viewer did not come to its end
        assert rows_of(shown)["/world/actions"] >= len(calls)


@rerun
def test_a_viewer_that_does_not_start_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(program, "reachable", lambda: False)
    with pytest.raises(program.ViewerError, match="did not start; it said last: .*--help.*; without a display, give a"):
        program.start_viewer("--no-such-option")
