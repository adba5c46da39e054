"""What each part of the runtime is worth: policy calls with everything on, and with one part taken away.

  OMP_WAIT_POLICY=active python scripts/bench_ablation.py             the preset base at a third of the tokens
  OMP_WAIT_POLICY=active python scripts/bench_ablation.py --policy panda --keep 0.35

Variants are interleaved, as in ``mvla bench``. The first line is everything on; the ratio of the others says how many
times longer a call takes without that part.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from contextlib import ExitStack
from unittest import mock

import numpy as np

from mvla_pruned_ros.evaluation.latency.subject import Subject
from mvla_pruned_ros.models import policy_folder
from mvla_pruned_ros.policy.engine import executor
from mvla_pruned_ros.policy.engine.device import set_threads
from mvla_pruned_ros.policy.mvla.presets import preset
from mvla_pruned_ros.policy.runtime import PolicyRuntime
from mvla_pruned_ros.pruning.methods import make_pruner

PARTS = {"packed weights": "pack_linears", "fused layers": "make_lean"}  # name: function of ``executor`` that does it
WARM_UP = 3  # calls


def subject_of(args: argparse.Namespace, without: Sequence[str] = ()) -> Subject:
    """The policy that is asked for, run without some of ``PARTS``."""
    with ExitStack() as stack:
        for part in without:
            stack.enter_context(mock.patch.object(executor, PARTS[part], lambda model: None))
        if args.policy:
            return Subject.trained(policy_folder(args.policy), "cpu", "auto")
        return Subject.random(args.preset, preset(args.preset), "cpu", "auto")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--preset", default="base", help="random weights of this size (default: %(default)s)")
    parser.add_argument("--policy", help="a shipped policy instead")
    parser.add_argument("--keep", type=float, default=0.33, help="keep ratio (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=22, help="calls of each (default: %(default)s)")
    parser.add_argument("--threads", type=int, default=2, help="default: %(default)s")
    args = parser.parse_args()
    set_threads(args.threads)

    whole = subject_of(args)
    policies = {"everything on": whole.policy}
    policies |= {f"without {part}": subject_of(args, [part]).policy for part in PARTS}
    policies["without both"] = subject_of(args, list(PARTS)).policy
    if whole.denoises:
        policies["without the prefix cache"] = whole.run_as(recompute=True, record=None)
    runtimes = {
        name: PolicyRuntime(policy, make_pruner("tri_stage", args.keep, whole.pruning))
        for name, policy in policies.items()
    }
    runtimes["without pruning"] = PolicyRuntime(whole.policy, make_pruner("none", 1.0))

    times: dict[str, list[float]] = {name: [] for name in runtimes}
    for call, observation in enumerate(whole.observations(args.rounds + WARM_UP)):
        for name, runtime in runtimes.items():
            inference = runtime.infer(observation)
            if call >= WARM_UP:
                times[name].append(inference.call_ms)
    first = np.array(times["everything on"])
    for name, taken in times.items():
        print(f"{name:28} {np.median(taken):8.1f} ms  {np.median(np.array(taken) / first):5.2f}")


if __name__ == "__main__":
    main()
