"""The ``mvla`` command."""

from __future__ import annotations

import argparse
import importlib
import importlib.metadata
import signal
import sys
from collections.abc import Sequence
from typing import Any, NoReturn

from ..node.malloc import keep_freed_memory  # before torch: the import of ``node`` sets OMP_WAIT_POLICY
from ..rigs.child_process import ChildFailedError

# Each is a module of this package with SUMMARY, a line for the help of `mvla`; EPILOG, examples; add_arguments(parser);
# and run(args), which returns the exit code. It is described by DESCRIPTION, or else by its docstring.
COMMANDS = (
    "demo",
    "preflight",
    "record",
    "replay",
    "train",
    "evaluate",
    "tables",
    "calibrate",
    "bench",
    "gpu",
    "soak",
    "faults",
    "analyze",
    "splices",
    "convert",
)

DESCRIPTION = """\
Token-pruned multi-visual-modal VLA policies: try, measure and train them.

  mvla demo                            simulated robot and policy node over DDS, with a report and a GIF
  mvla preflight --params my.yaml      is this robot ready for the policy node? moves nothing
  mvla evaluate --help                 success and latency of pruning methods in simulation
  mvla tables FILE                     the results of evaluate as markdown
  mvla record --out my_bag             the demo's topics as a rosbag2
  mvla replay my_bag --keep 0.35       a bag through the policy, pruned beside unpruned, without ROS
  mvla analyze --task push             2D and 3D salience over an episode or a bag, as a page
  mvla bench --preset base             how long policy calls take, pruned or not
  mvla gpu                             all that is to be measured on a GPU, within minutes
  mvla soak --minutes 30               the policy node for long: memory, command deadlines, stops
  mvla train --help                    train the small policy from scripted experts
  mvla calibrate --help                fit the pruning parameters to a policy
  mvla splices --tasks push            how far commands jump where action chunks meet, as numbers and a plot
  mvla faults                          what the policy node does when things go wrong
  mvla convert RUN OUT                 an upstream MLA checkpoint made into a policy folder
"""


class UsageError(Exception):
    """What the user asked for cannot be done; the message is all that is shown."""


class _Parser(argparse.ArgumentParser):
    """Answers a mistake in one line, without the usage."""

    def error(self, message: str) -> NoReturn:
        raise UsageError(f"{self.prog}: error: {message}")

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        for word in args or ():
            if word.startswith("--") and word.endswith("=--"):  # of which argparse before Python 3.13 makes a list
                self.error(f"argument {word[:-3]}: expected a value, got '--'")
        return super().parse_known_args(args, namespace)


def _parser(commands: Sequence[str]) -> argparse.ArgumentParser:
    parser = _Parser(prog="mvla", description=DESCRIPTION, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--version", action="version", version=f"mvla {_version()}")
    subparsers = parser.add_subparsers(dest="command", required=True, metavar="{" + ",".join(COMMANDS) + "}")
    for name in commands:
        module = importlib.import_module(f".{name}", __package__)
        subparser = subparsers.add_parser(
            name, help=module.SUMMARY, description=getattr(module, "DESCRIPTION", module.__doc__),
            epilog=module.EPILOG, formatter_class=argparse.RawDescriptionHelpFormatter,
        )  # fmt: skip
        module.add_arguments(subparser)
    return parser


def _version() -> str:
    try:
        return importlib.metadata.version("mvla_pruned_ros")
    except importlib.metadata.PackageNotFoundError:
        return "of a folder that is not installed"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run ``mvla``; returns its exit code: 0 done, 1 ran but failed, 2 asked for something impossible."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    # Only the module of the command given is imported: evaluating needs no rclpy, and help comes at once.
    given = arguments[0] if arguments and arguments[0] in COMMANDS else None
    try:
        args = _parser((given,) if given else COMMANDS).parse_args(arguments)
    except UsageError as error:
        print(error, file=sys.stderr)
        return 2
    # As an exception, so that the nodes that were started are ended on the way out.
    keep_freed_memory()
    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) != signal.SIG_IGN:  # as under nohup
            signal.signal(number, lambda number, _: sys.exit(128 + number))
    try:
        return importlib.import_module(f".{args.command}", __package__).run(args)
    except KeyboardInterrupt:
        print(f"mvla {args.command}: interrupted", file=sys.stderr)
        return 130
    except ChildFailedError as error:
        print(f"mvla {args.command}: error: {error}", file=sys.stderr)
        return 1
    except ModuleNotFoundError as error:
        if error.name and error.name.startswith("mvla_pruned_ros"):
            raise
        print(f"mvla {args.command}: error: {error}; see the installation notes in README.md", file=sys.stderr)
    except (ValueError, OSError) as error:
        print(f"mvla {args.command}: error: {error}", file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main())
