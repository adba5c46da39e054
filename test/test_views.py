"""Several views: where their tokens lie, what is remembered of them while a camera moves, and who handles them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from conftest import END_EFFECTOR, OBJECT, camera_at

from mvla_pruned_ros.analysis.pictures import draw_salience
from mvla_pruned_ros.analysis.recording import RecordingRuntime
from mvla_pruned_ros.geometry.poses import look_at
from mvla_pruned_ros.policy.base import Policy
from mvla_pruned_ros.policy.mla.config import MLAConfig
from mvla_pruned_ros.policy.mla.random_weights import random_mla_policy
from mvla_pruned_ros.policy.mvla.config import MVLAConfig
from mvla_pruned_ros.policy.mvla.instruction import InstructionTokenizer
from mvla_pruned_ros.policy.mvla.model import MVLAModel
from mvla_pruned_ros.policy.mvla.normalization import ActionNormalization
from mvla_pruned_ros.policy.mvla.policy import MVLAPolicy
from mvla_pruned_ros.policy.mvla.preprocess import prepare, view_squares
from mvla_pruned_ros.policy.runtime import PolicyRuntime
from mvla_pruned_ros.pruning.methods import METHODS, make_pruner
from mvla_pruned_ros.pruning.tri_stage.config import Lengths
from mvla_pruned_ros.pruning.tri_stage.semantic import unique_points
from mvla_pruned_ros.pruning.tri_stage.temporal import SalienceMemory, carry
from mvla_pruned_ros.pruning.types import Selection, TokenLayout
from mvla_pruned_ros.reports.overlay import draw_overlay
from mvla_pruned_ros.types import ArmState, CameraModel, Observation, View

VIEWS = ("image", "image_1")
CONFIG = MVLAConfig(
    views=VIEWS, image_size=64, num_groups=16, group_size=8, width=32, depth=3, heads=2, mlp_width=48,
    proprio=("ee_position", "ee_rotation_6d", "gripper"), proprio_dim=10, action_dim=7, evidence_layers=(1, 2),
)  # fmt: skip
LENGTHS = Lengths(robot=0.1, link=0.06, match=0.08)
DOWN = np.array([1.0, 0.0, 0.0, 0.0])


def on_the_wrist(hand: np.ndarray) -> CameraModel:
    """A camera beside the hand that looks at what is below it."""
    return CameraModel(64, 64, 60.0, 60.0, 32.0, 32.0, look_at(hand + [0.0, -0.08, 0.1], hand + [0.0, 0.02, -0.15]))


@pytest.fixture
def seen(observation: Callable[..., Observation]) -> Callable[..., Observation]:
    def make(call: int = 0, wrist: bool = True, moved: float = 0.02) -> Observation:
        plain, hand = observation(seed=call, width=64, height=64), END_EFFECTOR + [moved * call, 0.0, 0.0]
        pixels = np.random.default_rng(100 + call).integers(0, 256, (64, 64, 3), np.uint8)
        extra = (View("image_1", pixels, on_the_wrist(hand)),) if wrist else ()
        state = ArmState(hand.astype(np.float32), 1.0, DOWN, None, np.append(hand, DOWN))
        return replace(plain, views=(*plain.views, *extra), state=state, stamp_ns=10**9 + call * 10**8)

    return make


@pytest.fixture(scope="module")
def policy() -> MVLAPolicy:
    torch.manual_seed(0)
    tokenizer = InstructionTokenizer.from_instructions(["push the puck to the goal"], CONFIG.instruction_length)
    limits = np.ones(7, np.float32)
    return MVLAPolicy(MVLAModel(CONFIG, tokenizer.size), tokenizer, ActionNormalization(-limits, limits))


def test_patches_of_each_view_lie_where_its_own_camera_sees_them(seen: Callable[..., Observation]) -> None:
    one = seen()
    prepared = prepare(one, CONFIG)
    layout, patches = prepared.layout, CONFIG.grid**2
    assert prepared.image.shape == (2, 64, 64, 3) and layout.num_image == CONFIG.num_patches == 2 * patches == 32
    assert layout.views == VIEWS and layout.view_slices == [slice(0, 16), slice(16, 32)]
    for number, view in enumerate(one.views):
        place = layout.image_positions[layout.view_slices[number]]
        located = np.isfinite(place).all(1)
        assert located.any()
        (u, v), depth = view.camera.project(place[located])[0].T, view.camera.project(place[located])[1]
        assert (depth > 0).all()
        np.testing.assert_array_equal(v // 16 * 4 + u // 16, np.flatnonzero(located))
        on_view = layout.point_patches[number]
        (u, v), depth = view.camera.project(layout.point_positions)[0].T, view.camera.project(layout.point_positions)[1]
        inside = (depth > 0) & (u >= 0) & (u < 64) & (v >= 0) & (v < 64)
        expected = np.where(inside, v // 16 * 4 + u // 16 + 16 * number, -1)
        np.testing.assert_array_equal(on_view, expected)


def test_views_are_taken_by_name_and_a_missing_one_is_named(seen: Callable[..., Observation]) -> None:
    one = seen()
    turned = prepare(replace(one, views=one.views[::-1]), CONFIG)
    np.testing.assert_array_equal(turned.image, prepare(one, CONFIG).image)
    with pytest.raises(ValueError, match="takes the views image, image_1; the observation has image: .*extra_images"):
        prepare(seen(wrist=False), CONFIG)


def test_dropped_tokens_of_both_views_need_not_be_encoded(policy: MVLAPolicy, seen: Callable[..., Observation]) -> None:
    prepared = policy.prepare(seen())
    words = "push the puck to the goal"
    full = policy.model.tokenize(policy._batch(prepared, Selection.full(prepared.layout), words))
    kept = np.sort(np.random.default_rng(0).permutation(48)[:20])
    reason = np.zeros(48, np.int8)
    reason[kept] = 2
    pruned = policy.model.tokenize(policy._batch(prepared, Selection(reason, 32), words))
    both = full.visual[torch.from_numpy(kept)]
    torch.testing.assert_close(pruned.tokens[:, pruned.visual], full.tokens[:, both])
    torch.testing.assert_close(pruned.positions[:, pruned.visual], full.positions[:, both])


MLA = MLAConfig(
    views=VIEWS, image_size=84, image_width=32, image_heads=4, num_points=64, neighbours=9, point_width=12,
    point_token_width=24, vocabulary=64, blank_token=63, width=32, depth=4, heads=2, mlp_width=48,
    evidence_layers=(2, 3), workspace_lower=(-0.5, -0.1, 0.0), workspace_upper=(0.5, 1.0, 0.5),
)  # fmt: skip


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("kind", ["mvla", "mla"])
def test_every_method_prunes_every_policy_of_two_views(
    method: str, kind: str, policy: MVLAPolicy, seen: Callable[..., Observation]
) -> None:
    two: Policy = policy if kind == "mvla" else random_mla_policy(MLA, "cpu", torch.float32)
    runtime = PolicyRuntime(two, make_pruner(method, 1.0 if method == "none" else 0.5))
    for call in range(6):
        inference = runtime.infer(seen(call))
    if method != "none":
        assert 0.3 < inference.selection.keep_ratio < 0.57  # two of them choose how many within a bound
    squares = view_squares(seen(5).chosen_views(inference.layout.views), inference.layout.grids, 64)
    picture = draw_overlay(squares, inference.selection, inference.layout, scale=1)
    edge = len(picture)
    assert picture.shape == (edge, 2 * edge, 3) and picture[:, :edge].std() > 0 and picture[:, edge:].std() > 0


def test_analysis_draws_a_row_for_each_view(policy: MVLAPolicy, seen: Callable[..., Observation]) -> None:
    runtime = RecordingRuntime(policy)
    runtime.infer(seen())
    (call,) = runtime.take()
    picture = draw_salience(call, np.zeros(call.layout.num_visual, np.int8))
    size = len(call.pictures[0])
    assert picture.shape == (2 * size, 3 * size, 3)


# What is remembered


def test_what_is_remembered_of_a_moving_camera_follows_its_place(seen: Callable[..., Observation]) -> None:
    before, after = (prepare(seen(call, moved=0.06), CONFIG).layout for call in range(2))
    weight = np.full(before.num_visual, 0.1)
    distance = np.linalg.norm(before.image_positions - OBJECT, axis=1)
    weight[:32][distance < 0.06] = 1.0  # whoever sees the object
    carried = carry(SalienceMemory.seen(before, weight), after, LENGTHS._replace(robot=0.05))
    wrist = slice(16, 32)
    place = np.linalg.norm(after.image_positions[wrist] - OBJECT, axis=1)
    near, far = carried.salience[wrist][place < 0.05], carried.salience[wrist][place > 0.12]
    assert len(near) and len(far) and near.min() > 3 * far.max()


def test_only_a_camera_that_stands_still_remembers_by_index(seen: Callable[..., Observation]) -> None:
    still, same = (prepare(seen(call, moved=0.0), CONFIG).layout for call in range(2))
    moved = prepare(seen(1, moved=0.2), CONFIG).layout
    weight = np.random.default_rng(0).random(still.num_visual)
    memory = replace(SalienceMemory.seen(still, weight), age=np.arange(still.num_visual))

    def nowhere(layout: TokenLayout) -> TokenLayout:
        """As if no patch showed a point: nothing is left to go by but the index."""
        return replace(layout, image_positions=np.full_like(layout.image_positions, np.nan))

    kept = carry(memory, nowhere(same), LENGTHS)
    np.testing.assert_array_equal(kept.age[:32], np.arange(32))
    np.testing.assert_allclose(kept.salience[:32] / kept.salience[0], weight[:32] / weight[0])
    gone = carry(memory, nowhere(moved), LENGTHS)
    np.testing.assert_array_equal(gone.age[:16], np.arange(16))  # the camera outside stands still
    assert (gone.age[16:32] > memory.age.max()).all() and np.ptp(gone.salience[16:32]) == 0


def test_point_is_unique_only_where_no_view_shows_its_spot(seen: Callable[..., Observation]) -> None:
    layout = prepare(seen(), CONFIG).layout
    both = np.array([[3, -1, 3, -1], [20, 20, -1, -1]])
    layout = replace(layout, point_positions=layout.point_positions[:4], point_patches=both)
    salience = np.full(36, 0.1)
    salience[20] = 1.0  # only the patch of the second view is attended to
    np.testing.assert_array_equal(unique_points(layout, salience), [False, False, True, True])


def test_cameras_outside_and_on_the_wrist_agree_on_the_scene() -> None:
    """The made-up cameras are not the same, or the tests above would show nothing."""
    assert not np.allclose(camera_at(64, 64).base_from_camera, on_the_wrist(END_EFFECTOR).base_from_camera)
