"""The tri-stage pruner, stage by stage and as a whole, on a synthetic scene."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from mvla_pruned_ros.pruning.base import token_budget
from mvla_pruned_ros.pruning.baselines.schedule import NUM_KINDS, SalienceSchedule, SchedulePruner, kinds_of
from mvla_pruned_ros.pruning.baselines.simple import RandomPruning
from mvla_pruned_ros.pruning.methods import METHODS, make_pruner
from mvla_pruned_ros.pruning.tri_stage.config import TriStageConfig
from mvla_pruned_ros.pruning.tri_stage.modality import modality_share, split_budget
from mvla_pruned_ros.pruning.tri_stage.pruner import TriStagePruner
from mvla_pruned_ros.pruning.tri_stage.semantic import semantic_sets, unique_points
from mvla_pruned_ros.pruning.tri_stage.temporal import SalienceMemory, carry, longest_unseen, update
from mvla_pruned_ros.pruning.types import Evidence, PruningStats, Reason, Selection, SemanticSet, TokenLayout

GRID = 8
OBJECT = np.array([0.2, 0.6, 0.03])
GRIPPER = np.array([0.0, 0.6, 0.2])
SPACING = 0.05
LENGTHS = TriStageConfig().lengths(SPACING)


def scene(end_effector: np.ndarray = GRIPPER, rng: np.random.Generator | None = None) -> TokenLayout:
    """64 patches, of which 6 show an object and 6 the gripper; 24 point groups: 8 object, 8 gripper, 8 forearm."""
    rng = rng or np.random.default_rng(0)
    image = np.full((GRID * GRID, 3), np.nan, np.float32)
    image[10:16] = OBJECT + rng.normal(0, 0.01, (6, 3))
    image[40:46] = end_effector + rng.normal(0, 0.01, (6, 3))
    forearm = end_effector + np.array([0, -0.3, 0.3])
    points = np.concatenate([OBJECT + rng.normal(0, 0.01, (8, 3)), end_effector + rng.normal(0, 0.01, (8, 3)),
                             forearm + rng.normal(0, 0.01, (8, 3))]).astype(np.float32)  # fmt: skip
    patch = np.array([[10, 11, 12, 13, 14, 15, -1, -1] + [40, 41, 42, 43, 44, 45, -1, -1] + [5] * 8])
    pose = np.eye(4)[None]
    at = end_effector.astype(np.float32)
    return TokenLayout(("image",), ((GRID, GRID),), image, points, patch, pose, at, SPACING)


def attention_of(layout: TokenLayout, selection: Selection, ignored: int | None = None) -> Evidence:
    """What a policy that looks at object and gripper would show; ``ignored`` is a token it pays nothing."""
    weight = np.full(layout.num_visual, 0.05)
    for thing in (OBJECT, layout.end_effector):
        weight[np.linalg.norm(layout.positions - thing, axis=1) < 0.1] = 1.0
    if ignored is not None:
        weight[ignored] = 0.0
    attention = weight[selection.kept]
    return Evidence(np.ones(len(attention), np.float32), (0.8 * attention / attention.sum()).astype(np.float32))


def run_calls(pruner: TriStagePruner, calls: int) -> list[Selection]:
    selections = []
    for call in range(calls):
        layout = scene(rng=np.random.default_rng(call))
        selections.append(pruner.select(layout))
        pruner.observe(layout, selections[-1], attention_of(layout, selections[-1]))
    return selections


@pytest.mark.parametrize("method", ["random", "uniform", "tri_stage"])
@pytest.mark.parametrize("keep", [0.5, 0.35, 0.25, 0.125])
def test_first_call_is_full_and_later_calls_keep_the_budget_exactly(method: str, keep: float) -> None:
    pruner = make_pruner(method, keep)
    first, *later = run_calls(pruner, 5)
    assert first.is_full
    assert all(s.kept.sum() == round(keep * 88) for s in later)


@pytest.mark.parametrize("method", METHODS)
def test_keep_ratio_one_keeps_every_token(method: str) -> None:
    assert all(s.is_full for s in run_calls(make_pruner(method, 1.0), 4))


@pytest.mark.parametrize("method", [m for m in METHODS if m != "none"])
@pytest.mark.parametrize("keep", [0.0, -0.1, 1.0001, math.nan, math.inf])
def test_keep_ratio_outside_its_bounds_is_refused_with_the_value(method: str, keep: float) -> None:
    with pytest.raises(ValueError, match=r"keep ratio .* is outside \(0, 1\]"):
        make_pruner(method, keep)


def test_unknown_method_is_refused_with_the_list() -> None:
    with pytest.raises(ValueError, match="unknown method 'magic': choose from none, random, uniform"):
        make_pruner("magic", 0.5)


@pytest.mark.parametrize(
    "field, value", [("return_share", -0.1), ("smoothing", 0.0), ("window", 0), ("robot_radius_m", math.nan)]
)
def test_parameters_outside_their_bounds_are_refused_by_name(field: str, value: float) -> None:
    with pytest.raises(ValueError, match=field):
        TriStageConfig(**{field: value})


@pytest.mark.parametrize("stages", [(a, b, c) for a in (0, 1) for b in (0, 1) for c in (0, 1)])
def test_every_combination_of_stages_runs_and_keeps_the_budget(stages: tuple[int, int, int]) -> None:
    config = TriStageConfig(*(bool(s) for s in stages))
    assert all(s.kept.sum() == 22 for s in run_calls(TriStagePruner(0.25, config), 4)[1:])


def test_what_the_policy_looks_at_stays() -> None:
    last = run_calls(TriStagePruner(0.5), 4)[-1]
    layout = scene(rng=np.random.default_rng(3))
    matters = np.linalg.norm(layout.positions - OBJECT, axis=1) < 0.1
    matters |= np.linalg.norm(layout.positions - GRIPPER, axis=1) < 0.1
    assert last.kept[matters].all()
    assert last.kept[~matters].mean() < 0.35


def test_wrongly_dropped_object_token_comes_back_within_the_stated_number_of_calls() -> None:
    """The bound of ``longest_unseen``: at most ceil(dropped / returned per call) calls after it was dropped."""
    # Nothing protects the token here: stage II is off, and the policy paid it no attention at all.
    config = TriStageConfig(stage_semantic=False)
    pruner = TriStagePruner(0.5, config)
    budget = round(0.5 * 88)
    bound = math.ceil((88 - budget) / round(config.return_share * budget))
    token, layout = 12, scene()
    full = pruner.select(layout)
    pruner.observe(layout, full, attention_of(layout, full, ignored=token))
    seen_after = None
    for call in range(1, bound + 2):
        selection = pruner.select(layout)
        if call == 1:
            assert not selection.kept[token], "the token must be dropped first for this test to mean anything"
        elif selection.kept[token]:
            assert selection.reason[token] == Reason.RETURNED
            seen_after = call
            break
        pruner.observe(layout, selection, attention_of(layout, selection))
    assert seen_after is not None and seen_after <= bound + 1
    pruner.observe(layout, selection, attention_of(layout, selection))
    assert pruner.select(layout).kept[token], "once seen again, it is salient and stays"


def test_member_of_an_attended_object_is_protected_although_its_own_salience_is_zero() -> None:
    pruner, layout = TriStagePruner(0.5), scene()
    full = pruner.select(layout)
    pruner.observe(layout, full, attention_of(layout, full, ignored=12))
    selection = pruner.select(layout)
    assert selection.sets is not None and selection.sets[12] == SemanticSet.OBJECT
    assert selection.kept[12]


@pytest.mark.parametrize("keep", [0.15, 0.25])
def test_robot_keeps_its_reserve_when_all_attention_goes_to_the_object(keep: float) -> None:
    kept = {}
    for reserve in (0.0, 0.075):
        pruner = TriStagePruner(keep, TriStageConfig(robot_reserve=reserve, return_share=0.0, background_share=0.0))
        for call in range(2):
            layout = scene(rng=np.random.default_rng(call))
            selection = pruner.select(layout)
            near_object = np.linalg.norm(layout.positions - OBJECT, axis=1) < 0.1
            attention = np.where(near_object, 1.0, 0.001)[selection.kept]
            pruner.observe(layout, selection, Evidence(np.ones_like(attention), attention / attention.sum()))
        assert selection.sets is not None
        kept[reserve] = int((selection.kept & (selection.sets == SemanticSet.ROBOT)).sum())
    assert kept[0.075] >= round(0.075 * layout.num_visual) > kept[0.0]


def test_the_higher_the_temperature_the_less_salience_decides() -> None:
    layout, attended = scene(), {}
    for temperature in (0.0, 1.0, 10.0):
        config = TriStageConfig(stage_semantic=False, return_share=0.0, temperature=temperature)
        counts = []
        for seed in range(200):
            pruner = TriStagePruner(0.1, config, seed)
            full = pruner.select(layout)
            evidence = attention_of(layout, full)
            pruner.observe(layout, full, evidence)
            kept = pruner.select(layout).kept
            assert kept.sum() == token_budget(layout, 0.1)
            counts.append(kept[evidence.attention > evidence.attention.mean()].sum() / kept.sum())
        attended[temperature] = float(np.mean(counts))
    # 28 of 88 tokens draw 20 times the attention of the others. The first that is drawn is one of them with probability
    # 28 x 20 / (28 x 20 + 60) = 0.90, the last of nine a little less often; at 10 salience weighs 20 ** 0.1 = 1.35.
    assert attended[0.0] == 1.0
    assert 0.85 < attended[1.0] < 0.93
    assert 0.34 < attended[10.0] < 0.42


def test_dropped_tokens_keep_their_salience() -> None:
    layout = scene()
    memory = SalienceMemory.seen(layout, np.linspace(1, 2, 88))
    kept = np.zeros(88, bool)
    kept[:20] = True
    after, _ = update(memory, kept, np.ones(20), 0.5, 1.0)
    np.testing.assert_allclose(after.salience[20:], memory.salience[20:], rtol=1e-12)
    assert (after.age[:20] == 0).all() and (after.age[20:] == 1).all()


def test_evidence_far_from_the_prediction_begins_a_segment_and_replaces_it() -> None:
    layout = scene()
    memory = SalienceMemory.seen(layout, np.eye(88)[3] + 1e-6)
    kept = np.ones(88, bool)
    seen = np.eye(88)[70] + 1e-6
    after, new_segment = update(memory, kept, seen, 0.1, 0.5)
    assert new_segment
    np.testing.assert_allclose(after.salience, seen / seen.sum())
    _, same = update(memory, kept, np.eye(88)[3] + 1e-6, 0.1, 0.5)
    assert not same


def test_point_salience_is_carried_by_position_not_by_index() -> None:
    layout = scene()
    weight = np.zeros(88)
    weight[64:72] = 1  # the object's groups
    memory = SalienceMemory.seen(layout, weight)
    order = np.random.default_rng(1).permutation(24)
    shuffled = TokenLayout(
        layout.views, layout.grids, layout.image_positions, layout.point_positions[order],
        layout.point_patches[:, order], layout.camera_poses,
        layout.end_effector, layout.spacing,
    )  # fmt: skip
    carried = carry(memory, shuffled, LENGTHS).salience[64:]
    assert carried[order < 8].min() > 10 * carried[order >= 8].max()


def test_salience_near_the_gripper_moves_with_it() -> None:
    before, after = scene(), scene(GRIPPER + np.array([-0.25, 0.1, 0.0]))
    weight = np.full(88, 0.01)
    weight[72:80] = 1  # the gripper's groups
    carried = carry(SalienceMemory.seen(before, weight), after, LENGTHS).salience[64:]
    assert carried[8:16].min() > 5 * max(carried[:8].max(), carried[16:].max())


def test_longest_unseen_goes_by_age_then_salience() -> None:
    age, salience = np.array([0, 3, 1, 3, 2]), np.array([0.9, 0.1, 0.5, 0.2, 0.3])
    assert longest_unseen(age, salience, 3).tolist() == [3, 1, 4]
    assert 0 not in longest_unseen(age, salience, 5)


def test_modality_share_is_a_share_of_means() -> None:
    assert modality_share(np.array([3.0, 3.0, 1.0]), 2) == pytest.approx(0.75)
    assert math.isnan(modality_share(np.ones(3), 3))


@pytest.mark.parametrize(
    "share, floor, expected",
    [(0.5, 0.2, (33, 11)), (1.0, 0.2, (42, 2)), (0.0, 0.2, (20, 24)), (math.nan, 0.2, (33, 11)), (0.9, 0.0, (42, 2))],
)
def test_budget_follows_the_share_and_its_bounds(share: float, floor: float, expected: tuple[int, int]) -> None:
    image, points = split_budget(44, share, 66, 24, floor)
    assert (image, points) == expected or (image + points == 44 and abs(image - expected[0]) <= 1)


def test_evidence_counts_by_the_time_since_the_last_call() -> None:
    config = TriStageConfig(smoothing=0.5, smoothing_period_s=0.1)
    once, twice = config.smoothing_after(0.1), config.smoothing_after(0.2)
    assert once == pytest.approx(0.5) and twice == pytest.approx(0.75)
    assert config.smoothing_after(None) == TriStageConfig(smoothing=0.5).smoothing_after(7.0) == 0.5
    first, second = (replace(scene(), stamp_ns=stamp) for stamp in (10**9, 12 * 10**8))
    assert second.seconds_since(first) == pytest.approx(0.2)
    assert first.seconds_since(second) is None and second.seconds_since(scene()) is None


@pytest.mark.parametrize("stamps", [(0, 0), (1, 10**8), (1, 4 * 10**8)])
def test_pruner_smooths_by_the_time_it_is_told(stamps: tuple[int, int]) -> None:
    """Token 0 was looked at, then no more: the longer ago, the less of it is left."""
    pruner = TriStagePruner(1.0, TriStageConfig(smoothing_period_s=0.1, segment_threshold=1.0))
    for stamp, looked_at in zip(stamps, (0, 63)):
        layout = replace(scene(), stamp_ns=stamp)
        selection = pruner.select(layout)
        attention = np.full(layout.num_visual, 1e-3)
        attention[looked_at] = 1.0
        pruner.observe(layout, selection, Evidence(np.ones_like(attention), attention))
    assert pruner._memory is not None
    seconds = (stamps[1] - stamps[0]) / 1e9 if stamps[0] else 0.1
    left = pruner._memory.salience[0] / pruner._memory.salience[[0, 63]].sum()
    assert left == pytest.approx(0.5 ** (seconds / 0.1), abs=0.01)


def test_semantic_sets_follow_space_and_attention() -> None:
    layout = scene()
    weight = np.full(88, 0.5)
    weight[10:16] = weight[64:72] = 3.0
    sets = semantic_sets(layout, weight, LENGTHS, 1.0)
    assert (sets[10:16] == SemanticSet.OBJECT).all() and (sets[64:72] == SemanticSet.OBJECT).all()
    assert (sets[40:46] == SemanticSet.ROBOT).all() and (sets[72:80] == SemanticSet.ROBOT).all()
    assert (sets[80:] == SemanticSet.BACKGROUND).all(), "the forearm stands off the table, but nobody looks at it"
    assert (sets[:10] == SemanticSet.BACKGROUND).all()


def test_point_on_an_attended_patch_overlaps_and_an_occluded_one_is_unique() -> None:
    layout = scene()
    weight = np.full(88, 0.1)
    weight[10:16] = 1.0
    unique = unique_points(layout, weight)
    assert not unique[:6].any() and unique[6:8].all() and unique[8:14].all()


def test_same_seed_gives_the_same_selections() -> None:
    for method in ("random", "tri_stage"):
        a, b = (run_calls(make_pruner(method, 0.25, seed=7), 4) for _ in range(2))
        assert all((x.reason == y.reason).all() for x, y in zip(a, b))


def test_reset_makes_the_next_call_full() -> None:
    pruner = TriStagePruner(0.25)
    run_calls(pruner, 3)
    pruner.reset()
    assert pruner.select(scene()).is_full


def test_change_of_grid_forgets_and_is_full() -> None:
    pruner, layout = TriStagePruner(0.25), scene()
    run_calls(pruner, 3)
    other = TokenLayout(
        layout.views,
        ((4, 4),),
        layout.image_positions[:16],
        layout.point_positions,
        np.full((1, 24), -1),
        layout.camera_poses,
        layout.end_effector,
        layout.spacing,
    )
    assert pruner.select(other).is_full


def test_evidence_of_another_length_is_refused() -> None:
    pruner, layout = TriStagePruner(0.25), scene()
    with pytest.raises(ValueError, match="evidence for 3 tokens, but 88 were kept"):
        pruner.observe(layout, pruner.select(layout), Evidence(np.ones(3), np.ones(3)))


def test_random_pruning_draws_anew_each_call() -> None:
    pruner, layout = RandomPruning(0.5), scene()
    pruner.observe(layout, pruner.select(layout), Evidence(np.ones(88), np.ones(88)))
    assert (pruner.select(layout).kept != pruner.select(layout).kept).any()


def test_stats_count_what_stays() -> None:
    selection = run_calls(TriStagePruner(0.25), 3)[-1]
    stats = PruningStats.of(selection)
    assert stats.image_kept + stats.points_kept == 22 == 88 - stats.by_reason["dropped"]
    assert (stats.image_in, stats.points_in) == (64, 24)


def test_schedule_keeps_the_kinds_of_tokens_that_mattered_in_its_recordings() -> None:
    layout = scene()
    near = np.linalg.norm(layout.positions - layout.end_effector, axis=1) < 0.08
    schedule = SalienceSchedule.of_calls([(layout, near.astype(float))])
    pruner = SchedulePruner(near.sum() / layout.num_visual, schedule)
    elsewhere = scene(GRIPPER + np.array([0.0, 0.1, 0.05]), np.random.default_rng(1))
    first = pruner.select(elsewhere)
    pruner.observe(elsewhere, first, attention_of(elsewhere, first))
    kept = pruner.select(elsewhere).kept
    assert first.is_full
    assert (kept == (np.linalg.norm(elsewhere.positions - elsewhere.end_effector, axis=1) < 0.08)).all()


def test_schedule_tells_modalities_distances_and_patches_without_a_point_apart() -> None:
    kinds = kinds_of(scene())
    assert kinds.max() < NUM_KINDS
    assert len(set(kinds[40:46])) == 1 and set(kinds[40:46]).isdisjoint({kinds[0]})  # gripper patches, empty patch
    assert set(kinds[:64]).isdisjoint(set(kinds[64:]))
