"""Starting a node. What does not hold together ends it with one line that says what to do, not with a traceback."""

from __future__ import annotations

import os
import re
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

import rclpy
from rclpy.exceptions import ParameterException
from rclpy.node import Node
from rclpy.qos_overriding_options import InvalidQosOverridesError
from rclpy.signals import SignalHandlerOptions

from ..configuration.reader import read_yaml

Kind = TypeVar("Kind", bound=Node)

LARGEST_DOMAIN = 232  # DDS has no ports for more
# What ends a node in order: Ctrl-C, a process manager, a lost terminal, Ctrl-\.
ENDING_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT)


class StartError(RuntimeError):
    """The node cannot be started; the message is all that is shown."""


def start_node(make: Callable[[], Kind], args: Sequence[str] | None = None) -> Kind:
    """Initialise rclpy, without its signal handlers, and make a node.

    Args:
        make: raises ValueError for what does not fit. args: of the process; None takes ``sys.argv``.

    Raises:
        StartError: arguments, environment or parameters do not hold together. rclpy is shut down then.
    """
    args = sys.argv if args is None else args
    try:
        domain = os.environ.get("ROS_DOMAIN_ID", "")
        if domain and not (domain.isdecimal() and int(domain) <= LARGEST_DOMAIN):
            raise StartError(f"ROS_DOMAIN_ID is {domain!r}: a whole number from 0 to {LARGEST_DOMAIN} is needed")
        rclpy.init(args=list(args), signal_handler_options=SignalHandlerOptions.NO)
        node = make()
        check_parameter_files(args, node.get_fully_qualified_name())
    except (ValueError, RuntimeError, ParameterException, InvalidQosOverridesError) as error:
        rclpy.try_shutdown()
        raise StartError(_in_one_line(error)) from error
    return node


def print_help(args: Sequence[str] | None, name: str, what: str) -> bool:
    """Where ``--help`` stands before ``--ros-args``, say how a node is started; whether it stood there.

    Args:
        args: of the process; None takes ``sys.argv``. name: of the executable. what: it does, one sentence.
    """
    words = list(sys.argv if args is None else args)
    own = words[: words.index("--ros-args")] if "--ros-args" in words else words
    if not {"-h", "--help"} & set(own):
        return False
    print(
        f"""{what}

usage: {name} --ros-args [--params-file FILE] [-p PARAMETER:=VALUE]... [-r '~/TOPIC:=/NAME']...

Its parameters and topics, while it runs: ros2 param describe, ros2 node info; or docs/parameters.md and docs/topics.md.
FILE looks like config/robot.yaml."""
    )
    return True


def on_ending_signals(stop: Callable[..., Any]) -> None:
    """Have a function called by the signals that end a node, but for those that are ignored (as under nohup)."""
    for number in ENDING_SIGNALS:
        if signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, stop)


def check_parameter_files(args: Sequence[str], node_name: str) -> None:
    """Refuse parameter files that hold nothing for a node: its limits would silently not hold.

    Args:
        node_name: with its namespace, as ``/left/policy``.

    Raises:
        ValueError: names the file, the node and what the file has.
    """
    files = [Path(value) for flag, value in zip(args, args[1:]) if flag == "--params-file"]
    for file in files:
        names = ["/" + name.strip("/") for name in _node_names(read_yaml(file))]
        if not any(re.fullmatch(_pattern(name), node_name) for name in names):
            raise ValueError(
                f"the parameter file {file} has nothing for {node_name}; it names {', '.join(names) or 'no node'}: "
                f"write {node_name} or /** there, or give the node that name"
            )


def _node_names(entries: dict[str, Any], prefix: str = "") -> Iterator[str]:
    """Names, with their wildcards, under which ``ros__parameters`` stand."""
    for key, value in entries.items():
        if key == "ros__parameters":
            yield prefix
        elif isinstance(value, dict):
            yield from _node_names(value, f"{prefix}/{str(key).strip('/')}")


def _pattern(name: str) -> str:
    """A node's name with rcl's wildcards as a regular expression: ``*`` is one word, ``**`` any number of them."""
    words = {"/**": "(/[^/]+)*", "/*": "/[^/]+"}
    return "".join(words.get(part) or re.escape(part) for part in re.findall(r"/[^/]*", name))


def _in_one_line(error: Exception) -> str:
    """The message without rcl's source positions, and a remedy for the mistakes that people make."""
    text = re.sub(r",?\s*at /\S+:\d+", "", " ".join(str(error).split()))
    if "expecting type" in text:
        text += ": write it as the type that is expected, with a decimal point for a number"
    elif "Sequence should be of same type" in text:
        text += ": write all numbers of a list with a decimal point, as [0.0, -1.5, 0.0]"
    elif "parameter override rule" in text:
        text += "; a parameter is given as -p name:=value"
    elif "logging directory" in text or "log directory" in text:
        text += "; set ROS_LOG_DIR to a folder that can be written"
    return text
