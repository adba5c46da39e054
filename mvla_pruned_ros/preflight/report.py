"""All findings of one look at a robot, in the order in which they are read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from ..observation.streams import is_image
from ..policy.runtime import PolicyRuntime, WarmUp
from .evidence import Evidence
from .finding import Finding, fail, unknown
from .graph_checks import CommandTopic, Graph, judge_commands, judge_graph
from .policy_checks import Trial, box_of, judge_instruction, judge_policy, try_policy
from .remedies import remedy_of
from .scene_checks import Box, judge_scene
from .stream_checks import judge_streams

DEADLINE = "deadline"


@dataclass(frozen=True)
class Subject:
    """The policy that is to act.

    Attributes:
        runtime, warm_up: it and how long calls on its example took; None: it cannot be loaded, for ``problem``.
        keep_ratio, slow_ms: parameters ``keep_ratio`` and ``slow_policy_ms``.
        instruction, given_by: words, and where they come from or would come from.
    """

    runtime: PolicyRuntime | None = None
    warm_up: WarmUp | None = None
    problem: str = ""
    keep_ratio: float = 0.5
    slow_ms: float = 200.0
    instruction: str = ""
    given_by: str = "instruction"


@dataclass(frozen=True)
class Report:
    """What came out. box: that the policy sees, metres, base frame; None: it does not say."""

    findings: tuple[Finding, ...]
    trial: Trial = field(default_factory=Trial)
    box: Box | None = None


def report_of(
    evidence: Evidence, subject: Subject, parents: Mapping[str, str] | None = None, graph: Graph | None = None,
    commands: Sequence[CommandTopic] = (),
) -> Report:  # fmt: skip
    """Judge everything.

    Args:
        parents: of the frames of tf; None: it is not asked. graph, commands: of a live graph.
    """
    policy = subject.runtime.policy if subject.runtime else None
    box = box_of(policy) if policy else None
    box = box or evidence.expected.workspace
    findings = judge_graph(graph) if graph else []
    findings += judge_streams(evidence)
    findings += judge_scene(evidence, parents, box)
    findings.append(judge_instruction(policy, subject.instruction, subject.given_by, evidence.expected.live))
    trial = Trial()
    if subject.runtime is None or subject.warm_up is None:
        findings.append(fail("policy", subject.problem, remedy_of(subject.problem)))
        findings.append(unknown(DEADLINE, "could not judge: the policy is not loaded"))
    else:
        trial = try_policy(subject.runtime, evidence.observation)
        age = image_age_ms(evidence)
        findings += judge_policy(
            subject.runtime.policy, subject.warm_up, trial, subject.keep_ratio, subject.slow_ms, age
        )
    for topic in commands:
        findings += judge_commands(topic)
    return Report(tuple(findings), trial, box)


def image_age_ms(evidence: Evidence) -> float:
    """Median age of pictures on arrival; 0 where it is not known or makes no sense."""
    ages = [age for name, stream in evidence.streams.items() if is_image(name) for age in stream.arrivals.ages_s]
    age_ms = float(np.median(ages)) * 1e3 if ages else 0.0
    return age_ms if 0 <= age_ms <= evidence.expected.max_age_s * 1e3 else 0.0
