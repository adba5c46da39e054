"""What the streams give together: observations, the chain of transforms, points in the workspace, the hand."""

from __future__ import annotations

import difflib
from collections.abc import Mapping

import numpy as np

from ..geometry.clouds import crop, whereabouts
from ..observation.streams import is_camera_info
from ..types import Observation
from .arm_checks import position_inside
from .evidence import Evidence
from .finding import Finding, fail, ok, unknown, warn
from .hand_check import PICTURE, judge_hand
from .remedies import remedy_of

Box = tuple[tuple[float, ...], tuple[float, ...]]
FEW_INSIDE = 200  # points in the workspace, below which little of the scene is seen
UNITS = (0.1, 0.25)  # of a D405 and an L515, to a millimetre: factors by which depth may be too large


def judge_scene(evidence: Evidence, parents: Mapping[str, str] | None, box: Box | None) -> list[Finding]:
    """Lines about all streams together.

    Args:
        parents: frame -> parent, of tf; None: tf is not asked. box: (3,) corners that the policy sees, metres, base
            frame; None: it does not say.
    """
    found = [*_frames(evidence, parents), observations(evidence), *_labels(evidence)]
    if evidence.observation is None:
        words = "could not judge: there is no observation"
        return [*found, unknown("workspace", words), unknown("extrinsics", words)]
    return [
        *found,
        *workspace(evidence.observation, box, evidence.expected.workspace, evidence.readers.depth_unit_m),
        judge_hand(evidence.observation, evidence.expected.extrinsics_given),
    ]


def observations(evidence: Evidence) -> Finding:
    """How many pictures became observations, and what keeps the others from it."""
    expected, check = evidence.expected, "observations"
    if evidence.frames_problem:
        text = evidence.frames_problem
        return fail(check, text, remedy_of(text, expected.base_frame, expected.camera_frame))
    refused = evidence.refusals.total
    if evidence.observation is None and not evidence.built:
        why = evidence.unmatched or ("no picture arrived" if not evidence.images else "no picture was complete")
        return fail(check, f"none of {evidence.images} pictures has all that belongs to it: {why}", _matching(why))
    if refused:
        sentence = evidence.refusals.sentence(evidence.built)
        remedy = remedy_of(next(iter(evidence.refusals.counts)), expected.base_frame, expected.camera_frame)
        return (fail if evidence.observation is None else warn)(check, sentence, remedy)
    words = f"{evidence.matched} of {evidence.images} pictures have all that belongs to them"
    return ok(check, f"{words}; {evidence.built} were read, all of them well")


def _labels(evidence: Evidence) -> list[Finding]:
    """Recorded commands that training would leave out."""
    return [
        warn(
            "twist",
            f"{count} recorded twists cannot be used: {cause.partition(': ')[0]}",
            f"# {cause.partition(': ')[2]}",
        )
        for cause, count in evidence.twists.items()
    ]


def _matching(why: str) -> str:
    if "sync_tolerance_ms" in why:
        return "# see the line of that stream; for slow sensors: sync_tolerance_ms: 100.0"
    return "# see the lines of the streams above"


def _frames(evidence: Evidence, parents: Mapping[str, str] | None) -> list[Finding]:
    """The transforms that tf has to know."""
    frames = evidence.frames
    if parents is None or frames is None:
        return []
    wanted = {frames.end_effector: "end effector"} if frames.end_effector else {}
    for stream in evidence.streams.values():
        frame = stream.newest.header.frame_id if stream.newest is not None and hasattr(stream.newest, "header") else ""
        placed = frame in frames.poses or frame in frames.hand
        used = not is_camera_info(stream.name) and stream.name not in ("gripper", "joint_states")
        if used and frame and frame != frames.base and not placed and frames.knows(frame):
            wanted.setdefault(frame, stream.name)
    problems = [
        finding for frame, what in wanted.items() if (finding := missing_link(parents, frames.base, frame, what))
    ]
    return problems or [ok("tf", f"{', '.join(wanted) or 'no frame'} in {frames.base}")]


def missing_link(parents: Mapping[str, str], base: str, frame: str, what: str) -> Finding | None:
    """Which transform is missing between two frames.

    Args:
        parents: frame -> parent. what: is in that frame.

    Returns:
        None when a chain leads from one to the other.
    """
    known = {*parents, *parents.values()}
    for name in (frame, base):
        if name not in known:
            near = difflib.get_close_matches(name, sorted(known), 1)
            found = f"{what}: tf has no frame {name!r}, only {', '.join(sorted(known)) or 'none'}"
            parameter = "base_frame" if name == base else "ee_frame" if what == "end effector" else "camera_frame"
            return fail("tf", found, f"{parameter}: {near[0]}" if near else _publish(base, frame))
    top, bottom = _root(parents, base), _root(parents, frame)
    if top == bottom:
        return None
    found = (
        f"{what}: no transform joins {frame!r}, which hangs below {bottom!r}, with {base!r}, which hangs below {top!r}"
    )
    return fail("tf", found, _publish(top if base == top else base, bottom))


def _publish(parent: str, child: str) -> str:
    return (
        f"ros2 run tf2_ros static_transform_publisher --x X --y Y --z Z --qx QX --qy QY --qz QZ --qw QW "
        f"--frame-id {parent} --child-frame-id {child}"
    )


def _root(parents: Mapping[str, str], frame: str) -> str:
    seen = {frame}
    while frame in parents and parents[frame] not in seen:
        frame = parents[frame]
        seen.add(frame)
    return frame


def workspace(observation: Observation, box: Box | None, limits: Box | None, unit_m: float) -> list[Finding]:
    """How many points the policy sees, and whether the arm may move where it is.

    Args:
        box: that the policy sees. limits: in which the end effector may move. unit_m: of depth, ``depth_unit_m``.
    """
    check, found = "workspace", []
    position = np.asarray(observation.state.position, np.float64)
    where = f"({', '.join(f'{value:.2f}' for value in position)}) m"
    if limits is not None and not position_inside(position, *limits):
        words = f"the end effector is at {where}, outside workspace_lower {limits[0]} to workspace_upper {limits[1]}"
        found.append(warn(check, words, "# correct workspace_lower and workspace_upper, or move the arm into them"))
    box = box or limits
    if box is None:
        return [*found, unknown(check, "could not judge: the policy does not say which box it sees")]
    inside = len(crop(observation.points, *box))
    words = f"{inside} of {len(observation.points)} points lie in the workspace {box[0]} to {box[1]} m"
    if not inside:
        return [
            *found,
            fail(check, f"{words}; {whereabouts(observation.points)}", _nothing_inside(observation, box, unit_m)),
        ]
    if inside < FEW_INSIDE:
        return [*found, warn(check, f"{words}; {whereabouts(observation.points)}", PICTURE)]
    if not position_inside(position, *box):
        text = f"the end effector is at {where}, outside the box that the policy sees, {box[0]} to {box[1]} m"
        found.append(warn(check, text, "# move the arm into it; is ~/ee_pose in base_frame, in metres?"))
    return found or [ok(check, words)]


def _nothing_inside(observation: Observation, box: Box, unit_m: float) -> str:
    """What to do where the policy sees no point: another unit of depth, or the extrinsics."""
    origin = observation.views[0].camera.base_from_camera[:3, 3]
    for factor in UNITS:
        scaled = (origin + factor * (observation.points - origin)).astype(np.float32)
        if len(crop(scaled, *box)) >= FEW_INSIDE:
            note = f"# {factor:g} times the depth fits; of 32FC1 or a cloud, mend the driver's scale"
            return f"depth_unit_m: {unit_m * factor:g}  {note}"
    return f"# check extrinsics, base_frame and depth_unit_m; {PICTURE.removeprefix('# ')}"
