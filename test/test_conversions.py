"""Messages to arrays: what is honoured, what is refused, and that the stand-in equals cv_bridge and sensor_msgs_py."""

import importlib.util
import io
import os
import sys
from array import array
from pathlib import Path

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

pytest.importorskip("rclpy", reason="no ROS here: the messages to convert come with it")

from geometry_msgs.msg import PoseStamped
from PIL import Image as Picture
from sensor_msgs.msg import CameraInfo, CompressedImage, Image, JointState, PointCloud2, PointField
from std_msgs.msg import Header

from mvla_pruned_ros.messages import calibration, decode, layouts
from mvla_pruned_ros.messages.layouts import ConversionError
from mvla_pruned_ros.node.ros_messages import ENCODER
from mvla_pruned_ros.observation.builder import cloud_to_points
from mvla_pruned_ros.observation.frames import Frames
from mvla_pruned_ros.reports.overlay import KEPT_FIELDS

BASE, CAMERA = "base", "camera"
RGB = np.arange(24, dtype=np.uint8).reshape(2, 4, 3)  # red, green, blue of pixel p are 3p, 3p + 1, 3p + 2


def image(pixels: np.ndarray, encoding: str, padding: int = 0, big_endian: bool = False) -> Image:
    """Rows of ``pixels`` with ``padding`` bytes of 255 after each."""
    if big_endian:
        pixels = pixels.astype(pixels.dtype.newbyteorder(">"))
    rows = np.ascontiguousarray(pixels).view(np.uint8).reshape(len(pixels), -1)
    rows = np.pad(rows, ((0, 0), (0, padding)), constant_values=255)
    message = Image(encoding=encoding, height=pixels.shape[0], width=pixels.shape[1], is_bigendian=int(big_endian))
    message.step = rows.shape[1]
    message.data = array("B", rows.tobytes())
    return message


def cloud(points: np.ndarray, frame: str = BASE, rows: int = 1, row_padding: int = 0, **layout: object) -> PointCloud2:
    """(N, 3) points with fields in the order z, intensity, x, y unless ``names`` says otherwise."""
    names = str(layout.get("names", "zixy"))
    order, code = (">", True) if layout.get("big_endian") else ("<", False)
    kind, datatype = ("f8", PointField.FLOAT64) if layout.get("double") else ("f4", PointField.FLOAT32)
    size, gap = np.dtype(kind).itemsize, 4  # bytes that belong to no field
    step = size * len(names) + gap
    dtype = np.dtype(
        {"names": list(names), "formats": [order + kind] * len(names), "offsets": [size * i for i in range(len(names))],
         "itemsize": step}
    )  # fmt: skip
    values = np.zeros(len(points), dtype)
    for i, name in enumerate("xyz"):
        if name in names:
            values[name] = points[:, i]
    data = values.view(np.uint8).reshape(rows, -1)
    data = np.pad(data, ((0, 0), (0, row_padding)), constant_values=255)
    message = PointCloud2(header=Header(frame_id=frame), height=rows, width=len(points) // rows, is_bigendian=code)
    message.fields = [PointField(name=n, offset=size * i, datatype=datatype, count=1) for i, n in enumerate(names)]
    message.point_step, message.row_step = step, data.shape[1]
    message.data = array("B", data.tobytes())
    return message


def points_of(message: PointCloud2, base_from_camera: np.ndarray | None = None) -> np.ndarray:
    pose = np.eye(4) if base_from_camera is None else base_from_camera
    return cloud_to_points(message, Frames(BASE, CAMERA, {CAMERA: pose}))


def camera_info(**changes: object) -> CameraInfo:
    message = CameraInfo(width=640, height=480)
    message.k = [600.0, 0, 319.5, 0, 610.0, 239.5, 0, 0, 1]
    message.p = [500.0, 0, 300.0, 0, 0, 510.0, 200.0, 0, 0, 0, 1, 0]
    for name, value in changes.items():
        setattr(message, name, value)
    return message


# Images


@pytest.mark.parametrize("padding", [0, 5])
@pytest.mark.parametrize(
    ("encoding", "sent"),
    [
        ("rgb8", RGB),
        ("bgr8", RGB[..., ::-1]),
        ("rgba8", np.dstack([RGB, np.full((2, 4), 7, np.uint8)])),
        ("bgra8", np.dstack([RGB[..., ::-1], np.full((2, 4), 7, np.uint8)])),
    ],
)
def test_colour_order_and_row_padding_are_honoured(encoding: str, sent: np.ndarray, padding: int) -> None:
    got = decode.image_to_rgb(image(sent, encoding, padding))
    assert got.dtype == np.uint8 and got.flags.c_contiguous
    np.testing.assert_array_equal(got, RGB)


def test_grey_image_becomes_three_equal_channels() -> None:
    got = decode.image_to_rgb(image(RGB[..., 0], "mono8", 3))
    np.testing.assert_array_equal(got, np.repeat(RGB[..., :1], 3, 2))


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"encoding": "yuv411"}, "encoding 'yuv411'"),
        ({"encoding": "32FC1"}, "rgb8, bgr8"),
        ({"step": 11}, "step 11"),
        ({"height": 3}, "24 bytes"),
        ({"width": 0}, "size 0 x 2"),
    ],
)
def test_malformed_image_is_refused_and_the_reason_named(change: dict, says: str) -> None:
    message = image(RGB, "rgb8")
    for name, value in change.items():
        setattr(message, name, value)
    with pytest.raises(ConversionError, match=says):
        decode.image_to_rgb(message)


@pytest.mark.parametrize("big_endian", [False, True])
def test_depth_in_metres_masks_what_is_no_reading(big_endian: bool) -> None:
    sent = np.array([[0.5, np.nan, np.inf], [0.0, -1.0, 2.0]], np.float32)
    got = decode.depth_to_metres(image(sent, "32FC1", 4, big_endian))
    np.testing.assert_array_equal(got, np.array([[0.5, 0, 0], [0, 0, 2]], np.float32))
    assert got.dtype == np.float32 and got.dtype.isnative


@pytest.mark.parametrize("big_endian", [False, True])
def test_depth_in_millimetres_becomes_metres(big_endian: bool) -> None:
    got = decode.depth_to_metres(image(np.array([[0, 1500], [65535, 1]], np.uint16), "16UC1", 2, big_endian))
    np.testing.assert_allclose(got, [[0, 1.5], [65.535, 0.001]], rtol=1e-6)


def test_depth_in_the_unit_of_its_camera_becomes_metres() -> None:
    """Tenths of a millimetre, as of a D405. Metres stay metres."""
    tenths = decode.Readers(depth_unit_m=0.0001)
    got = decode.depth_to_metres(image(np.array([[0, 1500], [65535, 1]], np.uint16), "16UC1"), tenths)
    np.testing.assert_allclose(got, [[0, 0.15], [6.5535, 0.0001]], rtol=1e-6)
    metres = image(np.array([[0.5, 2.0]], np.float32), "32FC1")
    np.testing.assert_array_equal(decode.depth_to_metres(metres, tenths), np.float32([[0.5, 2.0]]))


def test_step_that_is_no_multiple_of_the_element_is_honoured() -> None:
    sent = np.array([[0.5, 1.0], [1.5, 2.0]], np.float32)
    np.testing.assert_array_equal(decode.depth_to_metres(image(sent, "32FC1", padding=3)), sent)


def test_colour_image_is_no_depth() -> None:
    with pytest.raises(ConversionError, match="encoding 'rgb8': 32FC1, 16UC1"):
        decode.depth_to_metres(image(RGB, "rgb8"))


@pytest.mark.parametrize("kind", ["jpeg", "png"])
def test_compressed_image_is_decoded(kind: str) -> None:
    sent = np.full((16, 24, 3), (200, 100, 50), np.uint8)
    buffer = io.BytesIO()
    Picture.fromarray(sent).save(buffer, kind)
    got = decode.compressed_to_rgb(CompressedImage(format=kind, data=array("B", buffer.getvalue())))
    assert got.shape == sent.shape
    np.testing.assert_allclose(got.astype(int), sent, atol=3 if kind == "jpeg" else 0)


def test_truncated_and_foreign_compressed_images_are_refused() -> None:
    buffer = io.BytesIO()
    Picture.fromarray(np.tile(RGB, (50, 50, 1))).save(buffer, "jpeg")
    for data in (buffer.getvalue()[: len(buffer.getvalue()) // 2], b"GIF89a", b""):
        with pytest.raises(ConversionError, match="JPEG or PNG"):
            decode.compressed_to_rgb(CompressedImage(format="jpeg", data=array("B", data)))
    with pytest.raises(ConversionError, match="is depth"):
        decode.compressed_to_rgb(CompressedImage(format="16UC1; compressedDepth png"))


# Clouds

POINTS = np.array([[1, 2, 3], [4, 5, 6], [7, 8, 9], [-1, -2, -3]], np.float32)


@pytest.mark.parametrize("double", [False, True])
@pytest.mark.parametrize("big_endian", [False, True])
@pytest.mark.parametrize(("rows", "row_padding"), [(1, 0), (2, 7)])
def test_fields_in_any_order_and_any_step_are_found(
    double: bool, big_endian: bool, rows: int, row_padding: int
) -> None:
    message = cloud(POINTS, rows=rows, row_padding=row_padding, double=double, big_endian=big_endian)
    got = points_of(message)
    assert got.dtype == np.float32 and got.dtype.isnative
    np.testing.assert_array_equal(got, POINTS)


def test_nan_points_are_masked() -> None:
    sent = POINTS.copy()
    sent[1, 2], sent[2, 0] = np.nan, np.inf
    np.testing.assert_array_equal(points_of(cloud(sent)), POINTS[[0, 3]])


def test_empty_cloud_gives_no_points() -> None:
    assert points_of(cloud(POINTS[:0])).shape == (0, 3)


def test_cloud_in_the_camera_frame_is_moved_into_the_base_frame() -> None:
    pose = np.array([[0, -1, 0, 10], [1, 0, 0, 20], [0, 0, 1, 30], [0, 0, 0, 1]], float)
    np.testing.assert_allclose(points_of(cloud(POINTS[:1], CAMERA), pose), [[8, 21, 33]])
    np.testing.assert_allclose(points_of(cloud(POINTS[:1], BASE), pose), POINTS[:1])


def test_moving_a_cloud_plane_by_plane_is_the_matrix_product() -> None:
    rng = np.random.default_rng(0)
    points = rng.uniform(-2, 2, (5000, 3)).astype(np.float32)
    points[::7, 1] = np.nan
    pose = np.eye(4)
    pose[:3, :3], pose[:3, 3] = Rotation.random(random_state=0).as_matrix(), [0.4, -0.2, 1.1]
    finite = points[np.isfinite(points).all(1)].astype(np.float64)
    got = points_of(cloud(points, CAMERA), pose)
    np.testing.assert_allclose(got, finite @ pose[:3, :3].T + pose[:3, 3], atol=1e-6)
    assert got.dtype == np.float32 and got.T.flags.c_contiguous


def test_cloud_in_another_frame_is_refused_never_taken_for_the_base_frame() -> None:
    for frame in ("", "lidar"):
        with pytest.raises(ConversionError, match=f"frame '{frame}'.*camera_frame and extrinsics"):
            points_of(cloud(POINTS, frame))


def test_malformed_clouds_are_refused_and_the_reason_named() -> None:
    with pytest.raises(ConversionError, match="z missing"):
        points_of(cloud(POINTS, names="xyi"))
    for name, value, says in (
        ("point_step", 8, "point_step 8"),
        ("row_step", 20, "row_step 20"),
        ("height", 3, "rows"),
    ):
        message = cloud(POINTS)
        setattr(message, name, value)
        with pytest.raises(ConversionError, match=says):
            points_of(message)
    message = cloud(POINTS)
    message.fields[0].datatype = PointField.INT16
    with pytest.raises(ConversionError, match="field z has datatype 3"):
        points_of(message)


def test_kept_points_come_back_as_they_were_sent() -> None:
    message = ENCODER.cloud(KEPT_FIELDS, np.column_stack([POINTS, np.arange(4) / 10, [0, 1, 2, 0]]), 0, BASE)
    assert [f.name for f in message.fields] == ["x", "y", "z", "salience", "set"]
    np.testing.assert_array_equal(points_of(message), POINTS)
    read = layouts.read_points(message, ["salience", "set"])
    np.testing.assert_allclose(read["salience"], np.arange(4) / 10)
    assert read["set"].tolist() == [0, 1, 2, 0]


# Camera, pose, gripper


def test_pixel_centres_move_by_half_a_pixel() -> None:
    model = calibration.camera_model(camera_info(), 640, 480, np.eye(4))
    assert (model.fx, model.fy, model.cx, model.cy) == (600, 610, 320, 240)


def test_intrinsics_are_rescaled_to_the_image() -> None:
    model = calibration.camera_model(camera_info(), 320, 240, np.eye(4))
    assert (model.width, model.height) == (320, 240)
    assert (model.fx, model.fy, model.cx, model.cy) == (300, 305, 160, 120)


def test_with_distortion_the_rectified_intrinsics_count() -> None:
    model = calibration.camera_model(camera_info(d=[0.1, 0, 0, 0, 0.0]), 640, 480, np.eye(4))
    assert (model.fx, model.fy, model.cx, model.cy) == (500, 510, 300.5, 200.5)


def test_region_of_interest_moves_the_centre() -> None:
    info = camera_info()
    info.roi.x_offset, info.roi.y_offset, info.roi.width, info.roi.height = 80, 0, 480, 480
    model = calibration.camera_model(info, 240, 240, np.eye(4))
    assert (model.fx, model.cx, model.cy) == (300, 120, 120)


def test_cropped_image_and_uncalibrated_camera_are_refused() -> None:
    with pytest.raises(ConversionError, match="640 x 360.*640 x 480"):
        calibration.camera_model(camera_info(), 640, 360, np.eye(4))
    with pytest.raises(ConversionError, match="not calibrated"):
        calibration.camera_model(camera_info(k=[0.0] * 9, p=[0.0] * 12), 640, 480, np.eye(4))
    with pytest.raises(ConversionError, match="not calibrated"):
        calibration.camera_model(CameraInfo(), 640, 480, np.eye(4))


def test_pose_in_another_frame_or_not_finite_is_refused() -> None:
    pose = PoseStamped(header=Header(frame_id=BASE))
    pose.pose.position.x = 0.5
    assert decode.pose_to_position(pose, BASE).tolist() == [0.5, 0, 0]
    pose.pose.position.y = float("nan")
    with pytest.raises(ConversionError, match="not finite"):
        decode.pose_to_position(pose, BASE)
    with pytest.raises(ConversionError, match="frame 'base'.*'world'"):
        decode.pose_to_position(pose, "world")


def test_gripper_without_position_or_in_metres_is_refused() -> None:
    assert decode.gripper_opening(JointState(position=[0.25])) == 0.25
    with pytest.raises(ConversionError, match="no position"):
        decode.gripper_opening(JointState())
    for wrong in (float("nan"), 85.0):
        with pytest.raises(ConversionError, match="scaled to 0"):
            decode.gripper_opening(JointState(position=[wrong]))


# The stand-in against the originals


def installed(package: str) -> bool:
    return importlib.util.find_spec(package) is not None


@pytest.mark.skipif(not installed("cv_bridge"), reason="cv_bridge is not installed: nothing to compare with")
@pytest.mark.parametrize("encoding", ["rgb8", "bgr8", "mono8", "rgba8", "bgra8"])
def test_stand_in_equals_cv_bridge(encoding: str) -> None:
    from cv_bridge import CvBridge

    channels = layouts.LAYOUTS[encoding][1]
    message = image(np.random.default_rng(0).integers(0, 256, (6, 8, channels), np.uint8), encoding)
    np.testing.assert_array_equal(layouts.imgmsg_to_cv2(message, "rgb8"), CvBridge().imgmsg_to_cv2(message, "rgb8"))


@pytest.mark.skipif(not installed("sensor_msgs_py"), reason="sensor_msgs_py is not installed: nothing to compare with")
def test_stand_in_equals_sensor_msgs_py() -> None:
    from sensor_msgs_py import point_cloud2

    fields = [PointField(name=n, offset=4 * i, datatype=PointField.FLOAT32, count=1) for i, n in enumerate("xyzi")]
    values = np.random.default_rng(0).random((20, 4)).astype(np.float32)
    mine = ENCODER.cloud("xyzi", values, 0, BASE)
    theirs = point_cloud2.create_cloud(Header(frame_id=BASE), fields, values)
    assert mine.data == theirs.data and mine.row_step == theirs.row_step
    for name in "xyz":
        np.testing.assert_array_equal(
            layouts.read_points(mine, ["x", "y", "z"])[name],
            point_cloud2.read_points(mine, field_names=["x", "y", "z"])[name],
        )


def test_installed_packages_only_get_messages_they_read_rightly() -> None:
    """Releases of cv_bridge and sensor_msgs_py ignore row padding and byte order."""
    seen: list[object] = []

    def reader(message: object, **_: object) -> np.ndarray:
        seen.append(message)
        return layouts.imgmsg_to_cv2(message, "rgb8")

    readers = decode.Readers(imgmsg_to_cv2=reader)
    plain, padded = image(RGB, "bgr8"), image(RGB, "bgr8", padding=4)
    for message in (plain, padded):
        np.testing.assert_array_equal(decode.image_to_rgb(message, readers), RGB[..., ::-1])
    assert seen == [plain]


def test_own_readers_take_over_what_installed_ones_fail_on() -> None:
    def fails(*_: object, **__: object) -> np.ndarray:
        raise AssertionError("made to fail")

    readers = decode.Readers(fails, fails)
    np.testing.assert_array_equal(decode.image_to_rgb(image(RGB, "bgr8"), readers), RGB[..., ::-1])
    plain = ENCODER.cloud("xyz", POINTS, 0, BASE)
    got = cloud_to_points(plain, Frames(BASE, CAMERA, {}), readers)
    np.testing.assert_array_equal(got, points_of(plain))


@pytest.mark.parametrize("kind", ["count 0", "one name twice"])
def test_cloud_with_fields_that_sensor_msgs_py_fails_on_is_read(kind: str) -> None:
    """Whoever is installed: its own checks end in an AssertionError on such fields."""
    from mvla_pruned_ros.node.ros_messages import installed_readers

    message = ENCODER.cloud("xyzi", np.column_stack([POINTS, np.zeros(len(POINTS))]), 0, BASE)
    if kind == "count 0":
        message.fields[3].count = 0
    else:
        message.fields[3].name = "x"
        message.fields[3].offset = 0
    got = cloud_to_points(message, Frames(BASE, CAMERA, {}), installed_readers()[0])
    np.testing.assert_allclose(got, points_of(cloud(POINTS, names="xyz")), atol=1e-7)


def test_cv_bridge_that_ends_the_process_is_left_aside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As one does that was built against numpy 1 and meets numpy 2: at the first picture, without an exception."""
    from mvla_pruned_ros.node.ros_messages import installed_readers

    package = tmp_path / "cv_bridge"
    package.mkdir()
    (package / "__init__.py").write_text(
        "import os\nclass CvBridge:\n    def imgmsg_to_cv2(self, *a, **k):\n        os.abort()\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), *sys.path]))
    for name in [name for name in sys.modules if name.split(".")[0] == "cv_bridge"]:
        monkeypatch.delitem(sys.modules, name)
    installed_readers.cache_clear()
    readers, problems = installed_readers()
    installed_readers.cache_clear()
    assert readers.imgmsg_to_cv2 is layouts.imgmsg_to_cv2
    assert any("cv_bridge is installed but cannot be used" in problem and "SIGABRT" in problem for problem in problems)


def test_picture_that_was_compressed_in_the_order_of_rgb_is_put_right() -> None:
    """image_transport itself compresses bgr; its subscribers exchange red and blue of what says otherwise."""
    red = np.zeros((16, 16, 3), np.uint8)
    red[..., 0] = 255
    file = io.BytesIO()
    Picture.fromarray(red[..., ::-1]).save(file, "PNG")
    exchanged = CompressedImage(format="rgb8; png compressed rgb8", data=array("B", file.getvalue()))
    np.testing.assert_array_equal(decode.compressed_to_rgb(exchanged), red)
    plain = CompressedImage(format="rgb8; png compressed bgr8", data=exchanged.data)
    np.testing.assert_array_equal(decode.compressed_to_rgb(plain), red[..., ::-1])


def test_readers_that_were_found_are_printed(capsys: pytest.CaptureFixture[str]) -> None:
    with capsys.disabled():
        found = [name for name in ("cv_bridge", "sensor_msgs_py") if installed(name)]
        print(f"\nreaders beside our own: {', '.join(found) or 'none installed'}")


@pytest.mark.skipif(sys.byteorder != "little", reason="written for little-endian computers")
def test_a_large_image_costs_no_copy() -> None:
    message = image(np.zeros((480, 640, 3), np.uint8), "rgb8")
    assert np.shares_memory(decode.image_to_rgb(message), np.frombuffer(message.data, np.uint8))
