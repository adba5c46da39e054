"""Camera infos of real drivers: which intrinsics count, and pictures that no pinhole camera has taken."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from mvla_pruned_ros.bags.writer import bag_encoder
from mvla_pruned_ros.messages.calibration import camera_model, largest_displacement
from mvla_pruned_ros.messages.layouts import ConversionError
from mvla_pruned_ros.observation.builder import observation_of
from mvla_pruned_ros.observation.frames import Frames
from mvla_pruned_ros.types import CameraModel

BASE, CAMERA, OTHER = "base", "camera_color_optical_frame", "left_optical_frame"
WIDTH, HEIGHT, FOCAL = 160, 120, 200.0
AZURE = [0.45, -2.5, 8e-4, -3e-4, 1.45, 0.33, -2.3, 1.38]  # of an Azure Kinect
make = bag_encoder()


def info(width: int = WIDTH, height: int = HEIGHT, frame: str = CAMERA, **changes: Any) -> Any:
    model = CameraModel(width, height, FOCAL, FOCAL, width / 2, height / 2, np.eye(4))
    message = make.camera_info(model, 10**9, frame)
    for name, value in changes.items():
        setattr(message, name, np.asarray(value, float) if name in "dkp" else value)
    return message


def model_of(message: Any, width: int = WIDTH, height: int = HEIGHT) -> tuple[float, float, float, float]:
    got = camera_model(message, width, height, np.eye(4))
    return got.fx, got.fy, got.cx, got.cy


OWN_P = [180, 0, 75, 0, 0, 181, 58, 0, 0, 0, 1, 0]


@pytest.mark.parametrize(
    ("model", "d"),
    [
        ("rational_polynomial", AZURE),
        ("plumb_bob", [-0.055, 0.066, 9e-4, 3e-4, -0.021]),
        ("plumb_bob", [0, 0, 0.02, 0, 0]),
        ("equidistant", [-0.01, 0.02, -0.01, 0.002]),
        ("fisheye", [0.1, 0, 0, 0]),
    ],
)
def test_picture_with_lens_distortion_is_refused_with_the_way_out(model: str, d: list[float]) -> None:
    for p in ({}, {"p": np.zeros(12)}):
        message = info(distortion_model=model, d=d, k=[80, 0, 80, 0, 80, 60, 0, 0, 1], **p)
        if not p:
            message.p = np.insert(message.k, (3, 6, 9), 0.0)
        with pytest.raises(ConversionError, match=rf"model '{model}', which moves pixels by up to \d.*image_proc"):
            model_of(message)
    assert model_of(info(distortion_model=model, d=d, p=OWN_P)) == (180, 181, 75.5, 58.5), "rectified: P is its own"


def test_displacement_is_that_of_the_models_by_hand() -> None:
    """At the corner of an image of 161 x 121 pixels whose centre is its middle pixel: x = 0.4, y = 0.3, r = 0.5."""
    of = (FOCAL, FOCAL, 80.0, 60.0), 161, 121
    assert largest_displacement("plumb_bob", np.array([0.1, 0, 0, 0, 0]), *of) == pytest.approx(0.1 * 0.25 * 0.5 * 200)
    tangential = np.hypot(2 * 0.01 * 0.12, 0.01 * (0.25 + 2 * 0.09)) * 200
    assert largest_displacement("plumb_bob", np.array([0, 0, 0.01, 0]), *of) == pytest.approx(tangential)
    rational = (1 - 1 / (1 + 0.2 * 0.25)) * 0.5 * 200
    assert largest_displacement("rational_polynomial", np.array([0, 0, 0, 0, 0, 0.2, 0, 0]), *of) == pytest.approx(
        rational
    )
    angle = np.arctan(0.5)
    bent = (0.5 - angle * (1 + 0.05 * angle**2)) * 200
    assert largest_displacement("equidistant", np.array([0.05, 0, 0, 0]), *of) == pytest.approx(bent)


def test_distortion_of_less_than_a_millimetre_a_metre_is_none() -> None:
    tiny = {"distortion_model": "plumb_bob", "d": [5e-3, 0, 0, 0, 0]}
    assert model_of(info(**tiny)) == model_of(info())
    assert model_of(info(d=[1e-12] * 5, p=OWN_P)) == model_of(info())


@pytest.mark.parametrize(
    ("model", "d", "says"),
    [
        ("inverse_unified", [0.1, 0.2], "model 'inverse_unified' with 2 coefficients, which is not known here"),
        ("", [0.1], "model '' with 1 coefficients"),
        ("rational_polynomial", [0.0] * 12 + [0.1, 0.1], "14 coefficients, which is not known"),
        ("plumb_bob", [np.nan, 0, 0, 0, 0], "by up to inf"),
    ],
)
def test_distortion_that_cannot_be_judged_is_refused(model: str, d: list[float], says: str) -> None:
    with pytest.raises(ConversionError, match=says):
        model_of(info(distortion_model=model, d=d))


def test_info_with_nothing_but_p_is_calibrated() -> None:
    assert model_of(info(k=np.zeros(9), p=OWN_P)) == (180, 181, 75.5, 58.5)


def test_binning_of_an_odd_size_leaves_a_row_and_a_column_out() -> None:
    """A pixel is the mean of 2 x 2 whose centres lie at whole numbers: no length is stretched."""
    odd = info(161, 121, k=[200, 0, 80, 0, 200, 60, 0, 0, 1], binning_x=2, binning_y=2)
    assert model_of(odd, 80, 60) == (100, 100, 40.25, 30.25)
    assert model_of(odd, 81, 61) == (100, 100, 40.25, 30.25)  # drivers that round up
    odd.binning_x, odd.binning_y = 4, 3
    assert model_of(odd, 40, 40) == (50, pytest.approx(200 / 3), 20.125, pytest.approx(60.5 / 3))


def observation(frame: str = CAMERA, info_frame: str = CAMERA, **parts: Any) -> Any:
    messages = {
        "image": make.image(np.zeros((HEIGHT, WIDTH, 3), np.uint8), "rgb8", 10**9, frame),
        "camera_info": info(frame=info_frame),
        "ee_pose": make.pose(np.zeros(3), 10**9, BASE),
        "gripper": make.gripper(1.0, 10**9, BASE),
        **(parts or {"points": make.cloud("xyz", np.ones((4, 3)), 10**9, BASE)}),
    }
    return observation_of(10**9, messages, "go", Frames(BASE, CAMERA, {CAMERA: np.eye(4), OTHER: np.eye(4)}))


def test_camera_info_of_another_camera_is_refused() -> None:
    with pytest.raises(ConversionError, match=f"colour image is in frame '{CAMERA}', its camera info in '{OTHER}'"):
        observation(info_frame=OTHER)
    depth = make.image(np.ones((HEIGHT, WIDTH), np.float32), "32FC1", 10**9, OTHER)
    with pytest.raises(ConversionError, match=f"depth image is in frame '{OTHER}', its camera info in '{CAMERA}'"):
        observation(depth=depth, depth_camera_info=info())
    assert len(observation(depth=depth, depth_camera_info=info(frame=OTHER)).points) == WIDTH * HEIGHT


def test_image_of_another_camera_than_the_pose_is_refused() -> None:
    with pytest.raises(ConversionError, match=f"colour image is in frame '{OTHER}', .* that of '{CAMERA}': set camera"):
        observation(frame=OTHER, info_frame=OTHER)


@pytest.mark.parametrize("frames", [("", CAMERA), (CAMERA, ""), ("", "")])
def test_image_or_info_without_a_frame_is_taken_for_the_camera(frames: tuple[str, str]) -> None:
    assert observation(*frames).views[0].camera.fx == FOCAL
