"""Each stream by itself: who publishes it, what arrives, when it is stamped, whether it can be read."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from ..messages.decode import ConversionError
from ..observation.streams import INTERPOLATED, is_camera_info, is_cloud, is_image
from . import arm_checks, camera_checks
from .evidence import Arrivals, Evidence, Expected, Stream
from .finding import Finding, fail, ok, warn
from .remedies import remedy_of

FEW_REFUSED = 0.1  # share of the messages
UPTIME_S = 1e9  # stamps before 2001 count from the start of a computer or camera
JITTER_S = 0.02  # spread of ages beyond which messages come late, and it is not the clock
AHEAD_S = 0.01  # of the clock, by which a median stamp may be without being noted
PROFILE = "python3 -c 'from mvla_pruned_ros.node.environment import fast_dds_profile as f; print(f())'"
SHARED_MEMORY = (
    f"export FASTDDS_DEFAULT_PROFILES_FILE=$({PROFILE})\n"
    "# in the shell of the camera driver, before it starts; ROS Jazzy and older: FASTRTPS_DEFAULT_PROFILES_FILE"
)


def judge_streams(evidence: Evidence) -> list[Finding]:
    """Lines of all streams, in the order in which they are given."""
    images = evidence.streams["image"].arrivals if "image" in evidence.streams else Arrivals(small=False)
    return [finding for stream in evidence.streams.values() for finding in judge_stream(stream, images, evidence)]


def judge_stream(stream: Stream, images: Arrivals, evidence: Evidence) -> list[Finding]:
    """One line if all is well with a stream, otherwise one for each problem.

    Args:
        images: of the reference image.
    """
    expected = evidence.expected
    missing = _missing(stream, expected) or _unconnected(stream) or _silent(stream, evidence)
    if missing is not None:
        return [missing]
    facts, problems = _content(stream, evidence)
    problems = [*_links(stream), *_stamps(stream, images, expected), *_gaps(stream, expected), *problems]
    return problems or [ok(stream.name, ", ".join([*_facts(stream), *facts]))]


def _facts(stream: Stream) -> list[str]:
    arrivals = stream.arrivals
    words = [f"{stream.topic}, {', '.join(stream.kinds)}"]
    if stream.publishers:
        words.append(f"from {', '.join(f'{end.node} ({end.qos})' for end in stream.publishers)}")
    if is_camera_info(stream.name) and len(arrivals) == 1:
        words.append("sent once")
    elif np.isfinite(arrivals.rate_hz):
        words.append(f"{arrivals.rate_hz:.1f} Hz")
    if arrivals.ages_s and not is_camera_info(stream.name):
        words.append(f"{np.median(arrivals.ages_s) * 1e3:.0f} ms old on arrival")
    return words


def _missing(stream: Stream, expected: Expected) -> Finding | None:
    """Nobody publishes the topic, or as another type."""
    wanted = " or ".join(stream.wanted)
    if set(stream.kinds) & set(stream.wanted):
        return None
    if stream.kinds:
        found = f"{stream.topic} has type {', '.join(stream.kinds)}, {wanted} is needed"
    else:
        found = f"nobody publishes {stream.topic}" if expected.live else f"{stream.topic} is not in the bag"
    lines = []
    for topic, transport in stream.alternatives:
        if transport and expected.live:
            setting = "depth_transport" if transport == "compressedDepth" else "image_transport"
            lines.append(f"{expected.remap(f'{stream.name}/{transport}', topic)}  # and {setting}: {transport}")
        else:
            lines.append(expected.remap(stream.private or stream.name, topic))
    if not lines:
        lines = [f"# no topic of type {wanted} {'is published' if expected.live else 'is recorded'}: start the driver"]
    return fail(stream.name, found, "\n".join(lines))


def _unconnected(stream: Stream) -> Finding | None:
    """QoS lets nothing through."""
    for text in stream.links:
        if text.startswith("incompatible QoS"):
            return fail(stream.name, text, qos_remedy(text, stream.topic))
    return None


def qos_remedy(text: str, topic: str) -> str:
    """The setting that makes a subscription of the node fit a publisher. Args: text: see ``node/qos_checks``."""
    words = text.lower()
    policy, value = ("durability", "volatile") if "transient local" in words else ("reliability", "best_effort")
    return f'"qos_overrides.{topic}.subscription.{policy}": {value}'


def _links(stream: Stream) -> list[Finding]:
    """Several publishers."""
    names = ", ".join(end.node for end in stream.publishers)
    return [
        warn(stream.name, f"{text}: {names}", "# end one of them, or give it another topic")
        for text in stream.links
        if not text.startswith("incompatible QoS")
    ]


def _silent(stream: Stream, evidence: Evidence) -> Finding | None:
    """Published, but nothing is heard."""
    if len(stream.arrivals):
        return None
    if not evidence.expected.live:
        return fail(
            stream.name, f"{stream.topic} has no message that can be read", "mcap recover BAG  # or record anew"
        )
    who = ", ".join(end.node for end in stream.publishers)
    small_ones_come = any(
        len(other.arrivals) for other in evidence.streams.values() if not (is_image(other.name) or is_cloud(other.name))
    )
    if small_ones_come and (is_image(stream.name) or is_cloud(stream.name)):
        found = f"{who} publishes {stream.topic}, and nothing arrives: the shared memory of its middleware is too small"
        return fail(stream.name, found, SHARED_MEMORY)
    waits = "" if small_ones_come else "  # a simulator may wait for a command: wait_for_command: false"
    found = f"{who} publishes {stream.topic}, but sent nothing"
    return fail(stream.name, found, f"ros2 topic hz {stream.topic}{waits}")


def _stamps(stream: Stream, images: Arrivals, expected: Expected) -> list[Finding]:
    """Stamps that the node refuses, or that are too far from those of the pictures."""
    arrivals, name = stream.arrivals, stream.name
    if is_camera_info(name):
        return []
    stamps = np.array(arrivals.stamps_ns)
    apart_s = offset_s(stamps, np.array(images.stamps_ns)) if name != "image" else 0.0
    refused = sum(stream.refused.values())
    if refused > FEW_REFUSED * len(arrivals) and refused > 1:
        causes = ", ".join(f"{count} x {cause}" for cause, count in stream.refused.items())
        words = stream.silence or f"{refused} of {len(arrivals)} on {stream.topic} refused for their stamps"
        words += f": {causes}" + (f"; the nearest to an image is {_duration(apart_s)} away" if apart_s else "")
        return [(fail if stream.silence else warn)(name, words, stamp_remedy(stamps, arrivals.ages_s))]
    if abs(apart_s) > expected.tolerance_s:
        side = "behind" if apart_s < 0 else "ahead of"
        found = (
            f"nearest {stream.topic} is {_duration(apart_s)} away from the image by its stamp, {side} it: clocks "
            f"differ, or it is late; {_duration(expected.tolerance_s)} are allowed (sync_tolerance_ms)"
        )
        return [fail(name, found, stamp_remedy(stamps, arrivals.ages_s))]
    return _late(stream, images, expected)


def _late(stream: Stream, images: Arrivals, expected: Expected) -> list[Finding]:
    """Stamps ahead of the clock, or an arm that is heard of later than it is seen: both are taken, and mean less."""
    name, ages = stream.name, stream.arrivals.ages_s
    if not ages or not images.ages_s:
        return []
    age_s, image_age_s = float(np.median(ages)), float(np.median(images.ages_s))
    remedy = stamp_remedy(np.array(stream.arrivals.stamps_ns), [])
    if age_s < -AHEAD_S:
        return [warn(name, f"{stream.topic} is stamped {_duration(age_s)} ahead of this computer's clock", remedy)]
    if name in INTERPOLATED and abs(age_s - image_age_s) > expected.tolerance_s:
        found = (
            f"{stream.topic} is {_duration(age_s)} old on arrival and the image {_duration(image_age_s)}: clocks "
            "differ, or one of the two comes late"
        )
        return [warn(name, found, remedy)]
    return []


def offset_s(stamps_ns: np.ndarray, image_stamps_ns: np.ndarray) -> float:
    """Median, over the pictures, of the nearest stamp minus the picture's, seconds; 0 where there are none.

    Where both cover the same time in part, only the pictures in it count: what comes late has not come for the others.
    """
    if not len(stamps_ns) or not len(image_stamps_ns):
        return 0.0
    ordered = np.sort(stamps_ns)
    shared = image_stamps_ns[(image_stamps_ns >= ordered[0]) & (image_stamps_ns <= ordered[-1])]
    image_stamps_ns = shared if len(shared) else image_stamps_ns
    after = np.clip(np.searchsorted(ordered, image_stamps_ns), 1, len(ordered) - 1) if len(ordered) > 1 else 0
    around = np.stack([ordered[np.maximum(after - 1, 0)] - image_stamps_ns, ordered[after] - image_stamps_ns])
    nearest = np.where(np.abs(around[0]) < np.abs(around[1]), around[0], around[1])
    return float(np.median(nearest)) * 1e-9


def stamp_remedy(stamps_ns: np.ndarray, ages_s: list[float]) -> str:
    """What to do about stamps that do not fit."""
    if not np.any(stamps_ns):
        return "# the driver leaves header.stamp zero: let it be the time of the measurement"
    if np.median(stamps_ns) * 1e-9 < UPTIME_S:
        return (
            "# stamps count from a start: use_sim_time: true if they are of a simulator; of realsense2_camera:\n"
            "ros2 launch realsense2_camera rs_launch.py depth_module.global_time_enabled:=true "
            "rgb_camera.global_time_enabled:=true"
        )
    if len(stamps_ns) > 1 and not np.any(stamps_ns % 1_000_000_000):
        return "# the driver stamps in whole seconds: let it fill header.stamp.nanosec"
    if ages_s and np.std(ages_s) > JITTER_S and np.median(ages_s) > 0:
        return "# messages come late: lower resolution or rate, or a wired network; max_observation_age_ms: allows more"
    return "sudo chronyc makestep  # on the computer that stamps them, and here: both by one NTP server"


def _gaps(stream: Stream, expected: Expected) -> list[Finding]:
    """Silences after which the arm would stop."""
    arrivals = stream.arrivals
    if is_camera_info(stream.name) or not expected.live or arrivals.longest_gap_s <= expected.max_age_s:
        return []
    found = (
        f"{stream.topic} was silent for {arrivals.longest_gap_s:.2f} s at {arrivals.rate_hz:.1f} Hz: the arm stops "
        f"after {expected.max_age_s:g} s (max_observation_age_ms)"
    )
    return [warn(stream.name, found, f"ros2 topic hz {stream.topic}  # raise the rate of the driver")]


Facts = tuple[list[str], list[Finding]]


def _content(stream: Stream, evidence: Evidence) -> Facts:
    """What the messages hold: facts, and what is wrong."""
    name = stream.name
    judge: Callable[[Stream, Evidence], Facts]
    if is_camera_info(name):
        judge = camera_checks.camera_info
    elif is_image(name):
        judge = camera_checks.image
    elif is_cloud(name):
        judge = camera_checks.cloud if name.startswith("points") else camera_checks.depth
    else:
        judge = {"ee_pose": arm_checks.pose, "gripper": arm_checks.gripper}.get(name, arm_checks.joints)
    try:
        return judge(stream, evidence)
    except ConversionError as error:
        return [], [fail(name, str(error), _filled(str(error), stream, evidence))]


def _filled(refusal: str, stream: Stream, evidence: Evidence) -> str:
    """The remedy of a refusal, with the names of this robot."""
    expected, streams = evidence.expected, evidence.streams
    remedy = remedy_of(refusal, expected.base_frame, expected.camera_frame)
    names = {"CAMERA_INFO": stream.topic, "IMAGE": streams["image"].topic if "image" in streams else "IMAGE"}
    if stream.name == "gripper" and (likely := arm_checks.likely_joint(stream.newest)):
        names["JOINT"] = likely
    for word, name in names.items():
        remedy = remedy.replace(f":={word}", f":={name}").replace(f": {word}", f": {name}")
    return remedy


def _duration(seconds: float) -> str:
    return f"{abs(seconds):.2f} s" if abs(seconds) >= 1 else f"{abs(seconds) * 1e3:.0f} ms"
