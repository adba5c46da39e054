"""One look at the live graph, from the arguments of a node to the findings."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace

import rclpy

from ..observation.streams import is_image
from ..policy.runtime import WarmUp
from ..preflight.finding import fail
from ..preflight.report import Report, Subject, report_of
from .diagnostics import lost_images
from .graph_facts import command_topics, graph_of
from .loading import LoadedPolicy, load_policy, warm_up
from .parameters import Settings
from .preflight_node import PreflightNode
from .start import start_node

DISCOVERY_S = 1.0  # from the start of the node, before it listens: it hears of the others one after the other


def look(args: Sequence[str], seconds: float) -> Report:
    """Start a node, load the policy, listen, judge.

    Args:
        args: of the process, with ``--ros-args``.

    Raises:
        StartError: there is no node to be made with these arguments.
    """
    node = start_node(PreflightNode, args)
    until = time.monotonic() + DISCOVERY_S
    try:
        node.start()
        policy = loaded(node)
        time.sleep(max(0.0, until - time.monotonic()))
        return look_with(node, seconds, *policy)
    finally:
        node.close()
        rclpy.try_shutdown()


def loaded(node: PreflightNode) -> tuple[LoadedPolicy | None, WarmUp | None, str]:
    """The policy of a node's parameters and how long its calls take; or why it cannot be loaded."""
    try:
        policy = load_policy(node.settings, node.get_logger().warning)
        return policy, warm_up(policy.runtime, _without_unknown_words(policy, node.settings)), ""
    except Exception as error:  # code of somebody else's policy, too
        return None, None, str(error) if isinstance(error, ValueError) else f"{type(error).__name__}: {error}"


def _without_unknown_words(policy: LoadedPolicy, settings: Settings) -> Settings:
    """The settings, without an instruction that the policy does not know: it has a line of its own."""
    try:
        policy.runtime.policy.check_instruction(settings["instruction"])
    except ValueError:
        return replace(settings, values={**settings.values, "instruction": ""})
    return settings


def look_with(
    node: PreflightNode, seconds: float, policy: LoadedPolicy | None, times: WarmUp | None, problem: str
) -> Report:
    """Listen with a node that was started and whose policy has been loaded. times, problem: see ``loaded``."""
    settings = node.settings
    node.listen(seconds, policy, settings["instruction"])
    evidence, heard = node.evidence(), node.instruction
    subject = Subject(
        runtime=policy.runtime if policy else None, warm_up=times, problem=problem,
        keep_ratio=settings["keep_ratio"], slow_ms=settings["slow_policy_ms"],
        instruction=heard or settings["instruction"],
        given_by=node.instruction_topic if heard or not settings["instruction"] else "the parameter instruction",
    )  # fmt: skip
    parents = node.tf.parents() if node.tf is not None else None
    published = all(stream.publishers for name, stream in evidence.streams.items() if is_image(name))
    graph = graph_of(node, lost_images(node.store) if published else "")
    report = report_of(evidence, subject, parents, graph, command_topics(node, settings))
    deaf = [text for text in node.instruction_links() if text.startswith("incompatible QoS")]
    remedy = "ros2 topic pub --qos-reliability reliable ...  # the node takes instructions as reliable"
    findings = (*report.findings, *(fail("instruction", text, remedy) for text in deaf))
    return Report(findings, report.trial, report.box)
