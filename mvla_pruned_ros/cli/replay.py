"""``mvla replay``: the frames of a bag through the policy, pruned beside unpruned. No ROS is needed.

DIR/replay.json has how far pruned actions are from unpruned ones and from recorded commands, DIR/frames.jsonl a row per
frame; both are the same bytes when it is run again. DIR/timings.json has what depends on the machine, DIR/replay.html
plots and pictures (opens without a network), DIR/annotated a bag with overlay, kept points and figures for Foxglove.

With --follow the calls that the policy node made while the bag was recorded are made again, on the same messages, with
the same settings and resets, and compared: the node says on ~/call what they were, and `mvla record` records it.
Topics, extrinsics and pruning are the node's; DIR/follow.json has the outcome, DIR/calls.jsonl a row per call.

With --live the bag is played over DDS into a policy node instead, at its own pace; that needs ROS and a bag of
`mvla record`.
"""

from __future__ import annotations

import argparse
import shutil
from pathlib import Path

from ..configuration.reader import with_words
from . import options
from .bag_options import add_bag_arguments, bag_setup, print_unused
from .options import add_out_argument, add_policy_arguments, add_set_argument

SUMMARY = "a bag through the policy, pruned beside unpruned"
EPILOG = """\
examples:
  mvla replay out/bag --keep 0.35
  mvla replay out/bag --keep 0.25 --set stage_semantic=false --out out/without_stage_2
  mvla replay my_bag --remap image:=/camera/color/image_raw depth:=/camera/aligned_depth_to_color/image_raw
      camera_info:=/camera/color/camera_info ee_pose:=/arm/pose gripper:=/hand/state --instruction "open the faucet"
      --extrinsics 0.6 0.1 0.6 0 0 0 1
  mvla replay out/bag --view out/bag.rrd             for Rerun: cameras, cloud, salience, actions, latency
  mvla replay out/bag --follow                       does the core give what the node gave?
  mvla replay out/bag --live --keep 0.35 --rate 2    into a policy node, twice as fast

exit code: 0 done (with --live: commands came out; with --follow: the same actions within float tolerance), 1 when a
node failed, none came or actions differ, 2 for what is impossible.
"""

# Arguments that neither --live nor --follow reads.
OFFLINE = (
    "set", "frames", "no_annotated", "remap", "bag_config", "extrinsics", "extrinsics_source", "sensor_frame",
    "base_frame", "camera_frame", "sync_tolerance_ms", "instruction", "split",
)  # fmt: skip


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the subcommand."""
    parser.add_argument("bag", type=Path, metavar="BAG", help="folder of a rosbag2")
    add_policy_arguments(parser)
    add_set_argument(parser)
    parser.add_argument(
        "--frames", type=options.count, metavar="N", help="stop after N frames (default: all there are)"
    )
    parser.add_argument("--no-annotated", action="store_true", help="do not write the bag for Foxglove")
    add_out_argument(parser, "out/replay")
    options.add_view_argument(parser)
    add_bag_arguments(parser)
    parser.add_argument(
        "--follow", action="store_true", help="make the recorded calls of the policy node again and compare"
    )
    live = parser.add_argument_group("into a policy node")
    live.add_argument("--live", action="store_true", help="play the bag into a policy node over DDS (needs ROS)")
    live.add_argument("--rate", type=options.number(0.01, 1000), help="speed of playing (default: 1)")
    live.add_argument(
        "--domain-id", type=options.domain, metavar="N", help="ROS_DOMAIN_ID (default: one of this run's own)"
    )


def run(args: argparse.Namespace) -> int:
    """Replay; returns the exit code."""
    if args.live and args.follow:
        raise ValueError("--live and --follow do not go together: the one plays into a node, the other needs none")
    if args.live:
        return _live(args)
    for name, value in (("--rate", args.rate), ("--domain-id", args.domain_id)):
        if value is not None:
            raise ValueError(f"{name} {value} is for --live: without it frames are taken as fast as the policy is")
    if args.follow:
        from .replay_follow import run_follow

        if args.view:
            raise ValueError(f"--view {args.view} does not go with --follow, which compares calls and shows none")
        _refuse_offline(args, "--follow, which takes all from what the node recorded")
        return run_follow(args)
    return _offline(args)


def _offline(args: argparse.Namespace) -> int:
    """Pruned beside unpruned, frame by frame, without ROS."""
    if args.set and args.method != "tri_stage":
        raise ValueError(f"--set is for method tri_stage; {args.method} would not read it")
    from rich.console import Console

    from ..bags.reader import Bag
    from ..policy.fingerprint import policy_fingerprint
    from ..policy.source import PolicySource
    from ..pruning.methods import make_pruner
    from ..replay.run import replay
    from ..reports.terminal import ProgressBar

    name, console = args.policy or "small", Console()
    source, setup = PolicySource.of(name), bag_setup(args)
    pruner = make_pruner(args.method, args.keep, with_words(source.pruning(), args.set, "pruning parameter"))
    about = {
        "policy": name, "policy_fingerprint": policy_fingerprint(source.folder) if source.folder else None,
        "method": args.method, "keep_asked": 1.0 if args.method == "none" else args.keep, "set": args.set,
    }  # fmt: skip
    with Bag(args.bag) as bag:
        args.out.mkdir(parents=True, exist_ok=True)
        _remove_annotated(args.out / "annotated")
        policy = source.load(args.device)
        with ProgressBar("frames", console=console) as bar:
            numbers, timings = replay(
                bag, setup, policy, pruner, about, args.out, most_frames=args.frames, annotate=not args.no_annotated,
                on_frame=bar.show, view=args.view or "",
            )  # fmt: skip
    console.print(_table(numbers, timings))
    print_unused(console, numbers["not_used"], numbers["drops"])
    if timings["times_real_time"]:
        console.print(f"{timings['times_real_time']:.2f} x as fast as it was recorded")
    console.print(
        f"wrote {args.out / 'replay.html'} (open it in a browser), replay.json, frames.jsonl, timings.json"
        f"{'' if args.no_annotated else ', and the bag annotated'}"
    )
    return 0


def _refuse_offline(args: argparse.Namespace, what: str) -> None:
    for name in OFFLINE:
        if getattr(args, name):
            raise ValueError(f"--{name.replace('_', '-')} does not go with {what}")


def _remove_annotated(folder: Path) -> None:
    """Of the run before; nothing but what such a run writes is touched."""
    if not folder.exists():
        return
    names = {path.name for path in folder.iterdir()}
    if names - {"metadata.yaml", "annotated.mcap"}:
        raise ValueError(f"{folder} holds more than a bag of an earlier replay: choose another --out")
    shutil.rmtree(folder)


def _table(numbers: dict, timings: dict) -> object:
    from ..reports.terminal import table

    title = (
        f"{numbers['bag']}: {numbers['frames']} frames, keep ratio {numbers['keep_ratio']:.3f}, prepared in "
        f"{timings['prepare_ms']['p50']:.1f} ms, policy call {timings['pruned_ms']['p50']:.1f} ms, unpruned "
        f"{timings['full_ms']['p50']:.1f} ms"
    )
    rows = []
    for key in ("pruned_to_unpruned", "pruned_to_recorded", "unpruned_to_recorded"):
        if numbers[key]:
            for measure, unit in (("mean_abs", ""), ("mean_abs_in_std", ", in std")):
                values = numbers[key][measure].values()
                cells = ("-" if value is None else f"{value:.4f}" for value in values)
                rows.append((key.replace("_", " ") + unit, *cells))
    return table(title, ("mean absolute difference", *numbers["action_std"]), rows)


def _live(args: argparse.Namespace) -> int:
    from ..rigs.demo.live_replay import run_replay
    from ..rigs.demo.session import DemoOptions

    _refuse_offline(args, "--live, which plays bags of `mvla record`")
    options = DemoOptions(
        out=args.out,
        keep_ratio=args.keep,
        method=args.method,
        policy=args.policy,
        device=args.device,
        domain_id=args.domain_id,
        view=args.view or "",
    )
    return run_replay(args.bag, options, 1.0 if args.rate is None else args.rate)
