"""Nodes in processes of their own end with the process that started them, however that ends."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

pytest.importorskip("rclpy", reason="ROS is neither sourced nor installed as wheels")
if sys.platform != "linux":
    pytest.skip("the signal of a parent's death is Linux's", allow_module_level=True)

from waiting import alive, wait_for

from mvla_pruned_ros.rigs.child_process import ChildNode

# A parent that starts a node, says its number and sleeps.
PARENT = """
import os, sys, time
from pathlib import Path
from mvla_pruned_ros.rigs.child_process import ChildNode
child = ChildNode("node", "mvla_pruned_ros.rigs.synthetic_robot", Path(sys.argv[1]), {}, {}, os.environ)
print(child.process.pid, flush=True)
time.sleep(60)
"""


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGHUP, signal.SIGTERM], ids=lambda n: n.name)
def test_child_ends_with_its_parent(tmp_path: Path, number: int) -> None:
    command = [sys.executable, "-c", PARENT, str(tmp_path / "log")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        child = int(parent.stdout.readline())
        assert alive(child)
        time.sleep(0.5)
        parent.send_signal(number)
        parent.wait(10)
    assert wait_for(lambda: not alive(child), 10)


def test_child_outlives_other_threads_and_is_started_by_none_of_them(tmp_path: Path) -> None:
    """The signal follows the thread that started the child."""
    errors: list[Exception] = []

    def attempt() -> None:
        try:
            ChildNode("node", "mvla_pruned_ros.rigs.synthetic_robot", tmp_path / "log", {}, {}, os.environ)
        except RuntimeError as error:
            errors.append(error)

    thread = threading.Thread(target=attempt)
    thread.start()
    thread.join()
    assert len(errors) == 1 and "main thread" in str(errors[0])
    child = ChildNode("node", "mvla_pruned_ros.rigs.synthetic_robot", tmp_path / "log", {}, {}, os.environ)
    try:
        thread = threading.Thread(target=time.sleep, args=(0.05,))
        thread.start()
        thread.join()
        time.sleep(0.3)
        child.check()
    finally:
        child.end()
