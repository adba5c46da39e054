"""Off-screen colour and depth from one MuJoCo render pass."""

from __future__ import annotations

import functools
import os

# Before MuJoCo is imported: a robot's computer and a CI machine have no screen.
os.environ.setdefault("MUJOCO_GL", "osmesa")

import mujoco
import numpy as np

from ..types import CameraModel
from .viewpoint import FIELD_OF_VIEW_DEG, POSITION, camera_pose


@functools.cache
def _gl_context() -> mujoco.GLContext:
    """The one GL context of this process: a second one, or one freed early, makes OSMesa read garbage."""
    context = mujoco.GLContext(64, 64)  # its own buffer is unused, pictures go to off-screen buffers
    context.make_current()
    return context


class RgbdCamera:
    """A camera fixed in the world of one MuJoCo model.

    Shadows, reflections, skybox and multisampling are off: they cost ten times the render itself on a CPU.
    """

    def __init__(self, model: mujoco.MjModel, size: int = 192) -> None:
        """Args: model: what to look at; its ``corner`` camera is moved. size: edge of the image in pixels."""
        self._model = model
        pose = camera_pose()
        camera_id = model.camera("corner").id
        model.cam_pos[camera_id] = POSITION
        model.cam_fovy[camera_id] = FIELD_OF_VIEW_DEG
        # MuJoCo's camera looks along -z with y up; the optical frame along +z with y down.
        mujoco.mju_mat2Quat(model.cam_quat[camera_id], (pose[:3, :3] @ np.diag([1.0, -1.0, -1.0])).ravel())
        model.vis.global_.offwidth = model.vis.global_.offheight = size
        model.vis.quality.offsamples = 0
        focal = 0.5 * size / np.tan(np.deg2rad(FIELD_OF_VIEW_DEG) / 2)
        self.model = CameraModel(size, size, focal, focal, size / 2, size / 2, pose)
        _gl_context()
        self._context = mujoco.MjrContext(model, mujoco.mjtFontScale.mjFONTSCALE_100)
        self._scene = mujoco.MjvScene(model, maxgeom=2000)
        for flag in ("SHADOW", "REFLECTION", "SKYBOX", "HAZE", "FOG"):
            self._scene.flags[getattr(mujoco.mjtRndFlag, f"mjRND_{flag}")] = False
        self._option = mujoco.MjvOption()
        self._view = mujoco.MjvCamera()
        self._view.type = mujoco.mjtCamera.mjCAMERA_FIXED
        self._view.fixedcamid = camera_id
        self._rect = mujoco.MjrRect(0, 0, size, size)
        self._rgb = np.empty((size, size, 3), np.uint8)
        self._depth = np.empty((size, size), np.float32)

    def render(self, data: mujoco.MjData) -> tuple[np.ndarray, np.ndarray]:
        """Picture of the current state.

        Returns:
            rgb: (H, W, 3) uint8; depth: (H, W) float32, metres along the optical axis, 0 beyond the far plane.
        """
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
        return self._rgb[::-1].copy(), np.where(buffer < 1.0, depth, 0).astype(np.float32)
