"""The executable ``policy_node``: the process, its signals and its executor."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Sequence

import rclpy
from rclpy.exceptions import ParameterException
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from rclpy.signals import SignalHandlerOptions

from .autostart import Autostart
from .environment import prepare_environment
from .malloc import keep_freed_memory
from .policy_node import PolicyNode
from .ros_messages import use_installed_readers

# How long the inference thread may hold the interpreter while a callback waits for it. Python's own 5 ms, several times
# per callback, let frames be overwritten before they were taken.
SWITCH_INTERVAL_S = 0.0005


def run(args: Sequence[str] | None = None, kind: type[PolicyNode] = PolicyNode) -> int:
    """Run the node until SIGINT or SIGTERM; one safe command at the end. 1 when it could not be configured.

    One thread serves all callbacks, not rclpy's multi-threaded executor: that one hands each callback to another thread
    and builds its wait set anew for it, half as much processor time again, all of it taken from the worker's
    interpreter.
    """
    prepare_environment()
    keep_freed_memory()
    use_installed_readers()
    sys.setswitchinterval(SWITCH_INTERVAL_S)
    rclpy.init(args=args, signal_handler_options=SignalHandlerOptions.NO)
    stopping, node = threading.Event(), None

    def stop(*_: object) -> None:
        first = not stopping.is_set()
        stopping.set()
        if first and node is not None and node.configuring:
            raise KeyboardInterrupt  # out of a configuration that a lifecycle manager asked for

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, stop)
    try:
        node = kind()
    except (ValueError, ParameterException) as error:
        print(f"policy: {error}", file=sys.stderr)
        rclpy.try_shutdown()
        return 1
    executor = SingleThreadedExecutor()
    executor.add_node(node)
    autostart = Autostart(node, stopping) if node.get_parameter("autostart").value else None
    try:
        while not stopping.is_set() and rclpy.ok():
            try:
                executor.spin_once(timeout_sec=0.1)
            except (ExternalShutdownException, KeyboardInterrupt):
                break
            except Exception as error:
                node.callback_failed(error)
    finally:
        node.close()
        if not node.configuring:  # in a thread of its own, which cannot be interrupted: the process ends underneath
            executor.shutdown(timeout_sec=0.5)
            node.destroy_node()
            rclpy.try_shutdown()
    return 1 if autostart is not None and autostart.failed else 0


def main() -> None:
    """Entry point of the executable ``policy_node``."""
    code = run()
    sys.stdout.flush()
    sys.stderr.flush()
    # Everything is closed; what is left, unloading torch and Open3D, takes seconds on a busy computer.
    os._exit(code)


if __name__ == "__main__":
    main()
