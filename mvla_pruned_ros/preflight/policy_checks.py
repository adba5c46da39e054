"""The policy: that it loads, knows the instruction, can act on what is seen, and is fast enough for its chunks."""

from __future__ import annotations

from dataclasses import dataclass, replace

from ..policy.base import NotReadyError, Policy
from ..policy.runtime import Inference, PolicyRuntime, WarmUp
from ..types import Observation
from .finding import Finding, fail, ok, unknown, warn
from .remedies import remedy_of
from .scene_checks import Box

CALLS = 3  # on the observation that was made
FAST_ENOUGH = 0.5  # of a chunk's duration may pass before it is in place, for the next to be there before it ends


@dataclass(frozen=True)
class Trial:
    """What calls on a real observation gave.

    Attributes:
        observation: that they were made on. last: the last of them, None where none could be made. later_ms: median of
            the calls after the first. problem: why none could be made.
    """

    observation: Observation | None = None
    last: Inference | None = None
    later_ms: float = float("nan")
    problem: str = ""


def try_policy(runtime: PolicyRuntime, observation: Observation | None) -> Trial:
    """Call a policy on an observation; nothing of the chunks is used."""
    if observation is None:
        return Trial()
    policy, calls = runtime.policy, list[Inference]()
    try:
        policy.check_instruction(observation.instruction)
    except ValueError:  # has a line of its own
        observation = replace(observation, instruction=policy.example().instruction)
    runtime.reset()
    try:
        for _ in range(CALLS):
            calls.append(runtime.infer(observation))
    except (NotReadyError, ValueError, RuntimeError) as error:
        return Trial(observation, problem=str(error))
    finally:
        runtime.reset()
    times = sorted(call.policy_ms for call in calls[1:])
    return Trial(observation, calls[-1], times[len(times) // 2])


def box_of(policy: Policy) -> Box | None:
    """The box that a policy sees, metres, base frame; None: it does not say."""
    config = getattr(policy, "config", None)
    lower, upper = getattr(config, "workspace_lower", None), getattr(config, "workspace_upper", None)
    return None if lower is None or upper is None else (tuple(lower), tuple(upper))


def judge_instruction(policy: Policy | None, words: str, given_by: str, live: bool) -> Finding:
    """Whether there is an instruction, and the policy can follow it.

    Args:
        words: empty where there is none yet. given_by: where it comes from, or would come from. live: not of a bag.
    """
    if not words and not live:
        remedy = "--instruction WORDS  # for the whole bag, or --remap instruction:=TOPIC"
        return warn("instruction", f"there is none on {given_by}", remedy)
    if not words:
        remedy = (
            f'ros2 topic pub -1 {given_by} std_msgs/String "{{data: WORDS}}"\ninstruction: WORDS  # or the parameter'
        )
        return warn("instruction", f"there is none yet: the arm waits for one on {given_by}", remedy)
    if policy is None:
        return unknown("instruction", f"could not judge {words!r}: the policy is not loaded")
    try:
        policy.check_instruction(words)
    except ValueError as error:
        return fail("instruction", f"{error} (from {given_by})", "instruction: WORDS  # of those that the policy knows")
    return ok("instruction", f"{words!r}, from {given_by}")


def judge_policy(
    policy: Policy, warm_up: WarmUp, trial: Trial, keep_ratio: float, slow_ms: float, age_ms: float
) -> list[Finding]:
    """Whether calls are fast enough.

    Args:
        trial: on the observation, where there is one. keep_ratio: that is asked for. slow_ms: slow_policy_ms. age_ms:
            of a picture on arrival.
    """
    memory = policy.memory_mb()
    device = f"on {policy.device_name}" + (f", {memory:.0f} MB of it in use" if memory else "")
    call_ms = warm_up.pruned_ms if trial.last is None else trial.later_ms
    times = (
        f"first call {warm_up.first_ms:.0f} ms, later {call_ms:.1f} ms at keep ratio {keep_ratio:g} "
        f"({'on what is seen' if trial.last else 'on an example'}), {warm_up.full_ms:.1f} ms with all tokens"
    )
    chunk_ms = policy.chunk_size * policy.step_s * 1e3
    late_ms = call_ms + max(0.0, age_ms)
    in_time = (
        f"{late_ms:.0f} ms pass from a picture to its actions, and a chunk lasts {chunk_ms:.0f} ms "
        f"({policy.chunk_size} steps of {policy.step_s * 1e3:g} ms)"
    )
    faster = "keep_ratio: 0.25\ndevice: cuda  # or a smaller policy, or one with longer chunks"
    ready = (
        fail("policy", trial.problem, remedy_of(trial.problem)) if trial.problem else ok("policy", f"{device}, {times}")
    )
    found = []
    if late_ms >= chunk_ms:
        found.append(fail("deadline", f"{in_time}: every chunk is over before it is in place; {times}", faster))
    elif late_ms > FAST_ENOUGH * chunk_ms:
        found.append(warn("deadline", f"{in_time}: the arm may stop between chunks; {times}", faster))
    if call_ms > slow_ms:
        text = f"a call takes {call_ms:.0f} ms, slow_policy_ms is {slow_ms:g}: diagnostics will show ERROR"
        found.append(warn("deadline", text, f"slow_policy_ms: {1.5 * call_ms:.0f}.0  # or a faster policy"))
    return [ready, *(found or [ok("deadline", in_time)])]
