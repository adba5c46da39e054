"""Pruning measures lengths by the policy's own scale: a scene of another size is pruned alike."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from mvla_pruned_ros.policy.mvla.config import MVLAConfig
from mvla_pruned_ros.policy.mvla.preprocess import prepare
from mvla_pruned_ros.pruning.baselines.schedule import kinds_of
from mvla_pruned_ros.pruning.tri_stage.config import LENGTHS, TriStageConfig
from mvla_pruned_ros.pruning.tri_stage.pruner import TriStagePruner
from mvla_pruned_ros.pruning.types import Evidence, Selection, TokenLayout
from mvla_pruned_ros.types import CameraModel, Observation

CALLS = 6


def larger(observation: Observation, factor: float) -> Observation:
    """The same scene ``factor`` times as large, seen through the same lens."""

    def farther(camera: CameraModel) -> CameraModel:
        pose = camera.base_from_camera.copy()
        pose[:3, 3] *= factor
        return replace(camera, base_from_camera=pose)

    views = tuple(replace(view, camera=farther(view.camera)) for view in observation.views)
    state = replace(observation.state, position=observation.state.position * np.float32(factor))
    return replace(observation, views=views, state=state, points=observation.points * np.float32(factor))


def larger_config(config: MVLAConfig, factor: float) -> MVLAConfig:
    lower, upper = (tuple(factor * x for x in corner) for corner in (config.workspace_lower, config.workspace_upper))
    return replace(
        config, workspace_lower=lower, workspace_upper=upper, voxel_size=factor * config.voxel_size,
        group_radius=factor * config.group_radius,
    )  # fmt: skip


def layouts_of(observation: Callable[..., Observation], factor: float) -> list[TokenLayout]:
    """Of a gripper that moves over a table, in a scene ``factor`` times as large."""
    config, layouts = larger_config(MVLAConfig(), factor), []
    for call in range(CALLS):
        one = observation(call)
        shift = np.array([0.03 * call, 0, -0.01 * call], np.float32)
        hand = np.linalg.norm(one.points - one.state.position, axis=1) < 0.1
        points = one.points.copy()
        points[hand] += shift
        one = replace(one, points=points, state=replace(one.state, position=one.state.position + shift))
        layouts.append(prepare(larger(one, factor), config).layout)
    return layouts


def selections(layouts: list[TokenLayout], pruner: TriStagePruner) -> list[Selection]:
    """With evidence that depends on the index of a token and the number of the call alone."""
    made = []
    for call, layout in enumerate(layouts):
        made.append(pruner.select(layout))
        weight = np.random.default_rng(call // 3).gamma(0.5, size=layout.num_visual)[made[-1].kept]
        pruner.observe(layout, made[-1], Evidence(np.ones_like(weight), weight / weight.sum()))
    return made


@pytest.mark.parametrize("keep", [0.5, 0.25, 0.125])
def test_a_scene_twice_as_large_is_pruned_alike(observation: Callable[..., Observation], keep: float) -> None:
    one, two = (selections(layouts_of(observation, factor), TriStagePruner(keep)) for factor in (1.0, 2.0))
    for a, b in zip(one, two):
        np.testing.assert_array_equal(a.reason, b.reason)
        assert a.sets is None or (a.sets == b.sets).all()
    sets = np.concatenate([a.sets for a in one if a.sets is not None])
    assert set(sets) == {0, 1, 2}, "robot, objects and background must occur for this test to mean anything"


def test_lengths_in_metres_do_not_grow_with_the_scene(observation: Callable[..., Observation]) -> None:
    fixed = TriStageConfig(robot_radius_m=0.08, link_m=0.06, match_m=0.08)
    one, two = (selections(layouts_of(observation, f), TriStagePruner(0.25, fixed)) for f in (1.0, 2.0))
    assert any((a.reason != b.reason).any() for a, b in zip(one, two))


def test_kinds_of_tokens_are_those_of_the_scale(observation: Callable[..., Observation]) -> None:
    for small, large in zip(layouts_of(observation, 1.0), layouts_of(observation, 2.0)):
        np.testing.assert_array_equal(kinds_of(small), kinds_of(large))


def test_lengths_of_the_shipped_policy_are_about_what_was_found_in_metres() -> None:
    lengths = TriStageConfig().lengths(MVLAConfig().token_spacing)
    np.testing.assert_allclose(lengths, (0.1, 0.06, 0.08), rtol=0.05)


def test_a_length_in_metres_goes_before_the_spacing() -> None:
    lengths = TriStageConfig(link_m=0.3).lengths(0.1)
    assert lengths.link == 0.3 and lengths.robot == LENGTHS.robot * 0.1


def test_spacing_follows_workspace_and_number_of_tokens_whatever_the_axes() -> None:
    config = MVLAConfig()
    assert larger_config(config, 3.0).token_spacing == pytest.approx(3 * config.token_spacing)
    wall = replace(config, workspace_lower=config.workspace_lower[::-1], workspace_upper=config.workspace_upper[::-1])
    assert wall.token_spacing == pytest.approx(config.token_spacing)
    assert replace(config, views=("image", "image_1")).token_spacing == config.token_spacing
    assert replace(config, num_groups=256).token_spacing < config.token_spacing
