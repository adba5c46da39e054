"""Which topic of a graph or a bag was probably meant for a stream that has none."""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping, Sequence

from ..observation.streams import is_camera_info, is_cloud, is_image

RAW, COMPRESSED = "sensor_msgs/msg/Image", "sensor_msgs/msg/CompressedImage"
MOST, AS_LIKELY = 3, 0.6  # that are named: so many, and those that are so likely as the first
# Words that drivers have in the names of such topics.
HINTS = {
    "image": ("color", "rgb", "left", "image"),
    "depth": ("aligned_depth", "registered", "depth"),
    "points": ("points", "cloud"),
    "info": ("color", "rgb", "camera_info"),
    "ee_pose": ("ee", "tcp", "tool", "end_effector", "current_pose", "pose"),
    "gripper": ("gripper", "hand", "finger", "joint_states"),
    "joint_states": ("joint_states", "joint"),
    "instruction": ("instruction", "task"),
}
NOT = {"image": ("depth", "infra", "mask", "overlay"), "depth": ("infra",), "info": ("depth", "infra")}


def alternatives(stream: str, wanted: Sequence[str], topics: Mapping[str, Sequence[str]]) -> list[tuple[str, str]]:
    """Topics that a stream may be remapped to, the likeliest first.

    Args:
        wanted: types that it takes. topics: name -> types of all that somebody publishes.

    Returns:
        Name, and the transport that must be set for it: empty, ``compressed`` or ``compressedDepth``.
    """
    kind = _kind(stream)
    found: list[tuple[float, str, str]] = []
    for topic, types in topics.items():
        transport = ""
        if not set(types) & set(wanted):
            transport = _transport(kind, topic) if COMPRESSED in types and RAW in wanted else ""
            if not transport:
                continue
        elif COMPRESSED in types and kind in ("image", "depth") and ("compressedDepth" in topic) != (kind == "depth"):
            continue
        name = topic.removesuffix(f"/{transport}") if transport else topic
        found.append((_likeness(kind, stream, name) - 0.5 * bool(transport), topic, transport))
    found.sort(key=lambda each: (-each[0], each[1]))
    best = found[0][0] if found else 0.0
    least = min(best, AS_LIKELY * best)  # the best may be unlikely, too
    return [(name, transport) for likeness, name, transport in found if likeness >= least][:MOST]


def _kind(stream: str) -> str:
    if is_camera_info(stream):
        return "info"
    if is_image(stream):
        return "image"
    return stream.split("_")[0] if is_cloud(stream) else stream


def _transport(kind: str, topic: str) -> str:
    """Of a compressed topic, where a raw one is looked for."""
    if kind == "depth" and topic.endswith("/compressedDepth"):
        return "compressedDepth"
    return "compressed" if kind == "image" and topic.endswith("/compressed") else ""


def _likeness(kind: str, stream: str, topic: str) -> float:
    words = topic.lower()
    hints, against = HINTS.get(kind, (stream,)), NOT.get(kind, ())
    score = max((1.0 - 0.1 * i for i, hint in enumerate(hints) if hint in words), default=0.0)
    score -= any(re.search(word, words) is not None for word in against)
    return score + 0.3 * difflib.SequenceMatcher(None, stream, words.rsplit("/", 1)[-1]).ratio()
