"""Other ends that come and go, do not match, or are one too many."""

from __future__ import annotations

import time

from geometry_msgs.msg import TwistStamped

from .. import qos
from .matrix import Report, fault, says, stops
from .session import Session

ROW = "peer restart, QoS mismatch, two publishers"


@fault("sensor drivers restart", ROW, "the arm stops, ERROR; rematched and moving again unaided")
def _(session: Session, report: Report) -> None:
    session.peer.disconnect()
    stops(session, report)
    says(session, report, "no data for more than", "ERROR")
    session.peer.connect()


@fault("command listener restarts", ROW, "rematched: commands arrive again")
def _(session: Session, report: Report) -> None:
    peer = session.peer
    peer.unsubscribe()
    session.drive_for(0.3)
    peer.commands.clear()
    start = time.monotonic()
    peer.subscribe()
    session.drive(lambda: peer.commands)
    report.must(peer.commands, "commands")
    if peer.commands:
        report.saw(f"first command {(peer.commands[0].received_s - start) * 1e3:.0f} ms after it listens again")


@fault("two publishers on one topic", ROW, "WARN that names the topic, the arm goes on; gone when one of them is")
def _(session: Session, report: Report) -> None:
    node, topic = session.graph.node, f"/{session.name}/depth"
    second = node.create_publisher(type(session.peer.messages["depth"]), topic, qos.SENSOR)
    says(session, report, f"2 publishers on {topic}", "WARN")
    report.must(session.peer.moving, "the arm goes on")
    node.destroy_publisher(second)


@fault("QoS of a command listener does not match", ROW, "WARN that names topic and node; gone with the listener")
def _(session: Session, report: Report) -> None:
    node, topic = session.graph.node, f"/{session.name}/command/twist"
    listener = node.create_subscription(TwistStamped, topic, lambda m: None, qos.LATCHED)
    says(session, report, f"incompatible QoS on {topic}", "WARN")
    node.destroy_subscription(listener)


@fault("QoS of a sensor does not match", ROW, "ERROR: silent, and that its QoS is the reason; rematched", "points")
def _(session: Session, report: Report) -> None:
    peer, node, topic = session.peer, session.graph.node, f"/{session.name}/gripper"
    node.destroy_publisher(peer.out.pop("gripper"))
    wrong = node.create_publisher(type(peer.messages["gripper"]), topic, qos.SENSOR)
    peer.out["gripper"] = wrong  # messages are sent, and DDS delivers none of them
    stops(session, report)
    says(session, report, f"incompatible QoS on {topic}", "ERROR")
    report.must(f"no data for more than 0.5 s on {topic}" in peer.status.message, "the silent stream is named")
    peer.disconnect()
    peer.connect()
