"""The live graph: what is seen at all, the clock, the middleware, who takes the commands."""

from __future__ import annotations

from dataclasses import dataclass

from .evidence import Endpoint
from .finding import Finding, fail, ok, warn


@dataclass(frozen=True)
class Graph:
    """What a node of the graph finds.

    Attributes:
        nodes: other nodes, by full name. domain: ROS_DOMAIN_ID and what limits discovery, in words.
        use_sim_time: the parameter. clocks: nodes that publish /clock. ticks: whether it was heard.
        middleware: its problems, each with a remedy (``node/environment``); about it in words: ``transport``.
        lost_images: of ``node/diagnostics``; empty when none are.
    """

    nodes: tuple[str, ...]
    domain: str
    use_sim_time: bool = False
    clocks: tuple[str, ...] = ()
    ticks: bool = True
    transport: str = ""
    middleware: tuple[tuple[str, str], ...] = ()
    lost_images: str = ""


@dataclass(frozen=True)
class CommandTopic:
    """Where commands of one kind will go.

    Attributes:
        what: ``controller`` or ``gripper command``. moves: the arm, which stands still without it.
        private: name below the node, as ``command/twist``. topic, kind: resolved name and type.
        listeners: subscriptions there. mismatch: why QoS connects none of them; empty when it does.
        rivals: other policy nodes that send there. others: further publishers.
        alternatives: topics of that type that somebody listens to.
    """

    what: str
    private: str
    topic: str
    kind: str
    moves: bool = True
    listeners: tuple[Endpoint, ...] = ()
    mismatch: str = ""
    rivals: tuple[str, ...] = ()
    others: tuple[str, ...] = ()
    alternatives: tuple[str, ...] = ()


def judge_graph(graph: Graph) -> list[Finding]:
    """Discovery, clock and middleware."""
    return [_discovery(graph), _clock(graph), *_middleware(graph)]


def _discovery(graph: Graph) -> Finding:
    if graph.nodes:
        return ok("graph", f"{len(graph.nodes)} other nodes, {graph.domain}")
    found = f"no other node is seen, {graph.domain}"
    remedy = "export ROS_DOMAIN_ID=N  # as in the shell of the drivers (echo $ROS_DOMAIN_ID there)\n"
    remedy += "unset ROS_LOCALHOST_ONLY; export ROS_AUTOMATIC_DISCOVERY_RANGE=SUBNET  # for drivers on another computer"
    return fail("graph", found, remedy)


def _clock(graph: Graph) -> Finding:
    who = ", ".join(graph.clocks)
    if graph.use_sim_time and not graph.ticks:
        heard = f"{who} publishes /clock, but it does not tick" if graph.clocks else "nobody publishes /clock"
        remedy = "use_sim_time: false  # or start the simulator, or play the bag with --clock"
        return fail("clock", f"use_sim_time is true, and {heard}", remedy)
    if graph.clocks and not graph.use_sim_time:
        found = f"{who} publishes /clock, but use_sim_time is false: stamps of a simulator or bag are not of this clock"
        return warn("clock", found, "use_sim_time: true")
    return ok("clock", f"/clock of {who}" if graph.use_sim_time else "time of this computer")


def _middleware(graph: Graph) -> list[Finding]:
    found = [fail("middleware", text, remedy) for text, remedy in graph.middleware]
    if graph.lost_images:
        text, _, remedy = graph.lost_images.rpartition(": ")
        found.append(fail("middleware", text, f"# {remedy}"))
    return found or [ok("middleware", graph.transport)]


def judge_commands(commands: CommandTopic) -> list[Finding]:
    """Whether somebody takes the commands, and nobody else sends them."""
    what, topic = commands.what, commands.topic
    listeners = [end for end in commands.listeners if end.kind == commands.kind]
    found: list[Finding] = []
    if not commands.listeners:
        lines = [f"-r '~/{commands.private}:={name}'" for name in commands.alternatives]
        remedy = "\n".join(lines) or f"# start the controller that takes {commands.kind}; see docs/commands.md"
        found.append((fail if commands.moves else warn)(what, f"nobody listens on {topic}", remedy))
    elif not listeners:
        kinds = ", ".join(f"{end.node} takes {end.kind}" for end in commands.listeners)
        remedy = "# another command_interface, or set the controller to the stamped type; see docs/commands.md"
        found.append(fail(what, f"{topic}: {kinds}, and {commands.kind} is sent", remedy))
    elif commands.mismatch:
        remedy = f"# subscribe to {topic} as reliable or best effort, and volatile: commands are reliable, depth 1"
        found.append(fail(what, commands.mismatch, remedy))
    if commands.rivals:
        names = ", ".join(commands.rivals)
        text = f"another policy node, {names}, sends commands to {topic}: this one would not move the arm"
        found.append(fail(what, text, f"ros2 lifecycle set {commands.rivals[0]} shutdown"))
    elif commands.others:
        names = ", ".join(commands.others)
        remedy = "# end it, or put a multiplexer between"
        found.append(warn(what, f"{names} sends to {topic}, too: the arm would obey both", remedy))
    words = ", ".join(f"{end.node} ({end.qos})" for end in listeners)
    return found or [ok(what, f"{topic}: {words} takes {commands.kind}")]
