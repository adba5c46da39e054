"""Off-screen colour and depth of one MuJoCo camera from one render pass."""

from __future__ import annotations

import functools
import os
from dataclasses import dataclass

# Before MuJoCo is imported: a robot's computer and a CI machine have no screen.
os.environ.setdefault("MUJOCO_GL", "osmesa")

import mujoco
import numpy as np

from ..types import CameraModel, View

# MuJoCo's camera looks along -z with y up; the optical frame along +z with y down.
OPTICAL = np.diag([1.0, -1.0, -1.0])


@functools.cache
def _gl_context() -> mujoco.GLContext:
    """The one GL context of this process: a second one, or one freed early, makes OSMesa read garbage."""
    context = mujoco.GLContext(64, 64)  # its own buffer is unused, pictures go to off-screen buffers
    context.make_current()
    return context


@dataclass(frozen=True)
class Shot:
    """What an RGB-D camera sees.

    Attributes:
        view: colour, and the camera model. depth: (H, W) float32, metres along the optical axis, 0 where nothing is.
    """

    view: View
    depth: np.ndarray


class RgbdCamera:
    """One named camera of a MuJoCo model, which may move.

    Shadows, reflections, skybox and multisampling are off: they cost ten times the render itself on a CPU.
    """

    def __init__(
        self, model: mujoco.MjModel, camera: str, view: str, size: int, *, visual_only: bool = False,
        farthest_m: float = np.inf, beside: RgbdCamera | None = None,
    ) -> None:  # fmt: skip
        """
        Args:
            model: what to look at. camera: its name there. view: of the ``View`` that it gives.
            size: edge of the image in pixels. visual_only: leave sites and the geoms of group 0 out, which in some
                models are shapes for collision that stand where others are drawn. farthest_m: depth beyond it is 0.
            beside: a camera of the same model and size. Textures are then in memory once; those of some scenes take
                hundreds of megabytes.
        """
        self._model, self._view_name, self._farthest_m = model, view, farthest_m
        self._id = model.camera(camera).id
        model.vis.global_.offwidth = model.vis.global_.offheight = size
        model.vis.quality.offsamples = 0
        self._size = size
        self._focal = 0.5 * size / np.tan(np.deg2rad(model.cam_fovy[self._id]) / 2)
        _gl_context()
        self._context: mujoco.MjrContext = (
            mujoco.MjrContext(model, mujoco.mjtFontScale.mjFONTSCALE_100) if beside is None else beside._context
        )
        self._scene = mujoco.MjvScene(model, maxgeom=4000)
        for flag in ("SHADOW", "REFLECTION", "SKYBOX", "HAZE", "FOG"):
            self._scene.flags[getattr(mujoco.mjtRndFlag, f"mjRND_{flag}")] = False
        self._option = mujoco.MjvOption()
        if visual_only:
            self._option.geomgroup[0], self._option.sitegroup[:] = 0, 0
        self._view = mujoco.MjvCamera()
        self._view.type = mujoco.mjtCamera.mjCAMERA_FIXED
        self._view.fixedcamid = self._id
        self._rect = mujoco.MjrRect(0, 0, size, size)
        self._rgb = np.empty((size, size, 3), np.uint8)
        self._depth = np.empty((size, size), np.float32)

    def close(self) -> None:
        """Free textures and meshes, also of cameras that share them."""
        self._context.free()

    def pose(self, data: mujoco.MjData) -> np.ndarray:
        """(4, 4) world_from_optical_frame, as it stands now."""
        pose = np.eye(4)
        pose[:3, :3] = data.cam_xmat[self._id].reshape(3, 3) @ OPTICAL
        pose[:3, 3] = data.cam_xpos[self._id]
        return pose

    def render(self, data: mujoco.MjData, base_from_camera: np.ndarray) -> Shot:
        """Picture of the current state. base_from_camera: (4, 4), for the camera model that comes with it."""
        mujoco.mjr_setBuffer(mujoco.mjtFramebuffer.mjFB_OFFSCREEN, self._context)
        mujoco.mjv_updateScene(
            self._model, data, self._option, None, self._view, mujoco.mjtCatBit.mjCAT_ALL, self._scene
        )
        mujoco.mjr_render(self._rect, self._scene, self._context)
        mujoco.mjr_readPixels(self._rgb, self._depth, self._rect, self._context)
        near = self._model.vis.map.znear * self._model.stat.extent
        far = self._model.vis.map.zfar * self._model.stat.extent
        buffer = self._depth[::-1]
        depth = near / (1.0 - buffer * (1.0 - near / far))
        hit = (buffer < 1.0) & (depth <= self._farthest_m)
        half, focal = self._size / 2, self._focal
        model = CameraModel(self._size, self._size, focal, focal, half, half, base_from_camera)
        return Shot(View(self._view_name, self._rgb[::-1].copy(), model), np.where(hit, depth, 0).astype(np.float32))
