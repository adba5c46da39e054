"""What of a policy call is shown, and as what: the entities of a Rerun recording. Needs Rerun, but no ROS.

==========================  ==========================================================================================
entity                      shows
==========================  ==========================================================================================
``world/cameras/NAME``      where the camera of a view stands; below it ``image/colour``: the square that the policy
                            saw, ``image/patches``: why each patch stays (class ids of ``Reason``), dark where it was
                            dropped
``world/cloud/salience``    points of the cloud around the point tokens, by the salience of the nearest token
``world/cloud/set``         the same points by its set: background, robot, object
``world/points/kept``       centres of the point tokens that stay; ``world/points/dropped``: of the others
``world/end_effector``      where it is
``world/actions``           the way that the action chunk leads it; not of policies that move joints
``tokens/...``              visual tokens in and kept, image and points
``share/...``               of 2D and 3D in the predicted salience, and in the tokens that stay
``latency_ms/...``          of the call and its stages; from image to actions in the node
``splices/jump``            how far this chunk's action is from that of the chunk before, for the same time
``commands/...``            counts of the node: sent, clamped, spliced, safe
``diagnostics``             messages of the node's diagnostics, when they change
==========================  ==========================================================================================

Positions are metres in the base frame. The timeline ``stamp`` has the observation's stamp, ``call`` counts.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import rerun as rr
import rerun.blueprint as rrb
from scipy.spatial import cKDTree

from ..control.action_spaces import ActionForm
from ..control.motions import path_of
from ..policy.mvla.preprocess import view_squares
from ..pruning.types import Reason, Selection, SemanticSet, TokenLayout
from ..reports.overlay import DOTS, TINTS
from ..types import ActionChunk, CameraModel
from .calls import Call, Status

SQUARE_PX = 224  # about so large are the pictures
JPEG_QUALITY = 80
MOST_POINTS = 8000  # of the cloud; more are thinned evenly
AROUND = 2.0  # spacings of tokens: points farther from every token than so many belong to none
DARK, TINT = 170, 70  # opacity of 255 of what lies over a dropped patch, and over one that stays
VIRIDIS = np.array([(68, 1, 84), (59, 82, 139), (33, 145, 140), (94, 201, 98), (253, 231, 37)])
LEVELS = {"OK": rr.TextLogLevel.INFO, "WARN": rr.TextLogLevel.WARN}  # others are errors


class Scene:
    """Logs calls and statuses to a recording, in their order, from one thread."""

    def __init__(self, recording: Any, form: ActionForm, period_ns: int = 0) -> None:
        """Args: recording: a ``rerun.RecordingStream``. form: of the policy's actions. period_ns: between the stamps of
        two calls that are drawn, at least; those in between are passed over."""
        self._recording, self._form, self._period_ns = recording, form, period_ns
        self._calls, self._drawn_ns = 0, -period_ns
        self._before: ActionChunk | None = None
        self._said: tuple[str, str] | None = None

    def show(self, shown: Call | Status) -> None:
        """Log one of them."""
        if isinstance(shown, Status):
            self._status(shown)
        else:
            self._call(shown)

    def _log(self, entities: dict[str, Any]) -> None:
        for path, entity in entities.items():
            self._recording.log(path, entity if isinstance(entity, rr.AsComponents) else rr.Scalars(float(entity)))

    def _at(self, stamp_ns: int) -> None:
        self._recording.set_time("stamp", timestamp=np.datetime64(stamp_ns, "ns"))

    def _status(self, status: Status) -> None:
        self._at(status.stamp_ns)
        self._recording.disable_timeline("call")
        self._log({f"commands/{name}": count for name, count in status.counts.items()})
        if (said := (status.level, status.message)) != self._said:
            level = LEVELS.get(status.level, rr.TextLogLevel.ERROR)
            self._log({"diagnostics": rr.TextLog(status.message, level=level)})
            self._said = said

    def _call(self, call: Call) -> None:
        inference, observation = call.inference, call.observation
        selection, layout, chunk = inference.selection, inference.layout, inference.chunk
        before, self._before = self._before, chunk
        number, self._calls = self._calls, self._calls + 1
        if not number:
            self._begin(layout)
        if 0 <= observation.stamp_ns - self._drawn_ns < self._period_ns:
            return
        self._drawn_ns = observation.stamp_ns
        self._at(observation.stamp_ns)
        self._recording.set_time("call", sequence=number)
        squares = view_squares(observation.chosen_views(layout.views), layout.grids, SQUARE_PX)
        for name, (image, camera), grid, view in zip(layout.views, squares, layout.grids, layout.view_slices):
            self._log(camera_entities(f"world/cameras/{name}", image, camera, selection.reason[view].reshape(grid)))
        self._log(cloud_entities(observation.points, selection, layout))
        self._log({"world/end_effector": rr.Points3D([observation.state.position], radii=0.012, labels=["hand"])})
        path = path_of(chunk, self._form, observation.state.orientation)
        if path is not None:
            self._log({"world/actions": rr.LineStrips3D([path], radii=0.003, colors=[(255, 60, 200)])})
        self._log(figures(call))
        at_ns = chunk.stamp_ns + round((call.latency_ms or 0) * 1e6)
        if (jump := jump_of(before, chunk, at_ns)) is not None:
            self._log({"splices/jump": jump})

    def _begin(self, layout: TokenLayout) -> None:
        """What holds for the whole recording: names and colours of classes, which views there are."""
        log = self._recording.log
        log("world", rr.ViewCoordinates.RIGHT_HAND_Z_UP, static=True)
        reasons = [(int(r), r.name.lower(), (*TINTS.get(r, (0, 0, 0)), TINT if r in TINTS else 0)) for r in Reason]
        reasons[Reason.DROPPED] = (0, "dropped", (0, 0, 0, DARK))
        log("world/cameras", rr.AnnotationContext(reasons), static=True)
        log("world/cloud", rr.AnnotationContext([(int(s), s.name.lower(), DOTS[s]) for s in SemanticSet]), static=True)
        self._recording.send_blueprint(blueprint(layout.views))


def blueprint(views: tuple[str, ...]) -> Any:
    """How the viewer is laid out. Args: views: names of the cameras."""
    cameras = [rrb.Spatial2DView(origin=f"world/cameras/{name}/image", name=name) for name in views]
    # The same points in two colours would cover each other.
    scenes = [
        rrb.Spatial3DView(origin="world", name=name, contents=["+ $origin/**", f"- $origin/cloud/{other}"])
        for name, other in (("salience", "set"), ("set", "salience"))
    ]
    curves = [rrb.TimeSeriesView(origin=name) for name in ("tokens", "share", "latency_ms", "splices")]
    return rrb.Blueprint(
        rrb.Vertical(
            rrb.Horizontal(*scenes, rrb.Vertical(*cameras)),
            rrb.Horizontal(*curves, rrb.TextLogView(origin="diagnostics")),
            row_shares=[2, 1],
        ),
        collapse_panels=True,
    )


def camera_entities(path: str, image: np.ndarray, camera: CameraModel, reason: np.ndarray) -> dict[str, Any]:
    """One view. image: (S, S, 3) uint8 that the policy saw. camera: of it. reason: (rows, cols) of its patches."""
    pose, (height, width) = camera.base_from_camera, image.shape[:2]
    rows, cols = reason.shape
    patches = np.repeat(np.repeat(reason.astype(np.uint8), height // rows, 0), width // cols, 1)
    return {
        path: rr.Transform3D(translation=pose[:3, 3], mat3x3=pose[:3, :3]),
        f"{path}/image": rr.Pinhole(
            focal_length=(camera.fx, camera.fy), principal_point=(camera.cx, camera.cy), width=width, height=height,
            image_plane_distance=0.1,
        ),
        f"{path}/image/colour": rr.Image(image).compress(jpeg_quality=JPEG_QUALITY),
        f"{path}/image/patches": rr.SegmentationImage(patches, opacity=1.0, draw_order=1.0),
    }  # fmt: skip


def cloud_entities(points: np.ndarray, selection: Selection, layout: TokenLayout) -> dict[str, Any]:
    """Point tokens and the points around them. points: (N, 3) metres, base frame."""
    centres, kept = layout.point_positions, selection.kept[selection.num_image :]
    entities = {
        "world/points/kept": rr.Points3D(centres[kept], radii=0.006, colors=[(255, 255, 255)]),
        "world/points/dropped": rr.Points3D(centres[~kept], radii=0.003, colors=[(90, 90, 90)]),
    }
    if len(centres) and len(points):
        points = points[:: math.ceil(len(points) / MOST_POINTS)]
        distance, nearest = cKDTree(centres).query(points, distance_upper_bound=AROUND * layout.spacing)
        points, nearest = points[np.isfinite(distance)], nearest[np.isfinite(distance)]
        salience, sets = (None if v is None else v[selection.num_image :] for v in (selection.salience, selection.sets))
        colours = np.full((len(centres), 3), 128, np.uint8) if salience is None else colours_of(salience)
        classes = np.zeros(len(centres), np.uint16) if sets is None else sets.astype(np.uint16)
        entities["world/cloud/salience"] = rr.Points3D(points, colors=colours[nearest], radii=0.002)
        entities["world/cloud/set"] = rr.Points3D(points, class_ids=classes[nearest], radii=0.002)
    return entities


def colours_of(values: np.ndarray) -> np.ndarray:
    """(N, 3) uint8 RGB of (N,) values, from dark blue (0) to yellow (the largest)."""
    share = np.clip(values / max(float(values.max(initial=0)), 1e-12), 0, 1)
    steps = np.linspace(0, 1, len(VIRIDIS))
    return np.stack([np.interp(share, steps, channel) for channel in VIRIDIS.T], 1).round().astype(np.uint8)


def figures(call: Call) -> dict[str, float]:
    """Curves: tokens, shares, latency. What is not known has no entry."""
    inference, stats, selection = call.inference, call.inference.stats, call.inference.selection
    share, kept = selection.image_share, stats.image_kept + stats.points_kept
    values = {
        "tokens/in": stats.image_in + stats.points_in,
        "tokens/image_kept": stats.image_kept,
        "tokens/points_kept": stats.points_kept,
        "share/salience_2d": share,
        "share/salience_3d": 1 - share,
        "share/kept_2d": stats.image_kept / kept if kept else math.nan,
        "share/kept_3d": stats.points_kept / kept if kept else math.nan,
        "latency_ms/policy": inference.policy_ms,
        **{f"latency_ms/{stage}": ms for stage, ms in inference.stage_ms.items()},
        "latency_ms/image_to_actions": math.nan if call.latency_ms is None else call.latency_ms,
    }
    return {path: float(value) for path, value in values.items() if math.isfinite(value)}


def jump_of(before: ActionChunk | None, chunk: ActionChunk, at_ns: int) -> float | None:
    """How far two chunks are apart at a time, the gripper left out, in units of the action; None where one has none."""
    if before is None or before.actions.shape != chunk.actions.shape:
        return None
    old, new = before.index_at(at_ns), chunk.index_at(at_ns)
    if not (0 <= old < len(before.actions) and 0 <= new < len(chunk.actions)):
        return None
    return float(np.linalg.norm(chunk.actions[new, :-1] - before.actions[old, :-1]))
