"""The executable ``policy_node``: the process, its signals and its executor."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .policy_node import PolicyNode

# How long the inference thread may hold the interpreter while a callback waits for it. Python's own 5 ms, several times
# per callback, let frames be overwritten before they were taken.
SWITCH_INTERVAL_S = 0.0005


def run(args: Sequence[str] | None = None, kind: Callable[[], PolicyNode] | None = None) -> int:
    """Run the node until it is told to end; one safe command then.

    Args:
        args: of the process; None takes ``sys.argv``. kind: makes the node.

    Returns:
        Exit code: 0; 1 when the node could not be started or configured, or a thread of it failed.
    """
    # Here and not above: they take seconds, in which Ctrl-C must end the process quietly.
    from .environment import prepare_environment

    prepare_environment()
    from .start import StartError, on_ending_signals, print_help, start_node

    if print_help(args, "policy_node", "Runs a pruned policy on camera and depth topics and publishes its commands."):
        return 0
    from .malloc import keep_freed_memory
    from .policy_node import PolicyNode

    keep_freed_memory()
    sys.setswitchinterval(SWITCH_INTERVAL_S)
    stopping, failed, node = threading.Event(), threading.Event(), None

    def stop(*_: object) -> None:
        first = not stopping.is_set()
        stopping.set()
        if first and node is not None and node.configuring:
            raise KeyboardInterrupt  # out of a configuration that a lifecycle manager asked for

    def thread_failed(failure: threading.ExceptHookArgs) -> None:
        """A thread that is gone is not missed until it is needed: end in order now, with a safe command."""
        sys.excepthook(failure.exc_type, failure.exc_value or failure.exc_type(), failure.exc_traceback)
        failed.set()
        stopping.set()

    on_ending_signals(stop)
    threading.excepthook = thread_failed
    try:
        node = start_node(kind or PolicyNode, args)
    except StartError as error:
        print(f"policy: {error}", file=sys.stderr)
        return 1
    return int(not _spin(node, stopping) or failed.is_set())


def _spin(node: PolicyNode, stopping: threading.Event) -> bool:
    """Serve the node until it is told to end, then close it; False when it could not be configured.

    One thread serves all callbacks, not rclpy's multi-threaded executor: that one hands each callback to another thread
    and builds its wait set anew for it, half as much processor time again, all of it taken from the worker's
    interpreter.
    """
    import rclpy
    from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor

    from .autostart import Autostart

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
    return autostart is None or not autostart.failed


def main() -> None:
    """Entry point of the executable ``policy_node``."""
    try:
        code = run()
    except KeyboardInterrupt:  # while modules were still loaded
        code = 130
    sys.stdout.flush()
    sys.stderr.flush()
    # Everything is closed; what is left, unloading torch and Open3D, takes seconds on a busy computer.
    os._exit(code)


if __name__ == "__main__":
    main()
