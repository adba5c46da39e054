"""Instruction and visual tokens meet before the backbone; which token is meant is learnt beside the actions."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from mvla_pruned_ros.policy.mvla.config import MVLAConfig
from mvla_pruned_ros.policy.mvla.model import MEANT_M, Batch, MVLAModel, _grounding_loss
from mvla_pruned_ros.training.config import TrainingConfig
from mvla_pruned_ros.training.demonstrations import next_contacts

CONFIG = MVLAConfig(
    image_size=32, num_groups=8, group_size=6, width=32, depth=2, heads=2, mlp_width=32, chunk_size=4,
    point_colour=True, grounding=True, evidence_layers=(1,),
)  # fmt: skip
RED, GREEN = 2, 3  # words


def batch_of(seed: int, count: int = 32) -> tuple[Batch, torch.Tensor]:
    """A red and a green thing at random places; the instruction names one, and there the gripper will close."""
    rng = np.random.default_rng(seed)
    centres = rng.uniform([-0.3, 0.4, 0.05], [0.3, 0.9, 0.1], (count, 8, 3)).astype(np.float32)
    colours = np.full((count, 8, 3), 128, np.uint8)
    colours[:, 2], colours[:, 5] = (220, 30, 30), (30, 220, 30)
    words = rng.choice([RED, GREEN], count)
    meant = np.where(words == RED, 2, 5)
    batch = Batch(
        image=torch.zeros((count, 1, 32, 32, 3), dtype=torch.uint8), centres=torch.from_numpy(centres),
        groups=torch.zeros((count, 8, 6, 3)), colours=torch.from_numpy(colours), proprio=torch.zeros((count, 4)),
        end_effector=torch.zeros((count, 3)),
        instruction=torch.from_numpy(np.pad(words[:, None], ((0, 0), (0, 7)))),
        goal=torch.from_numpy(centres[np.arange(count), meant]),
    )  # fmt: skip
    return batch, torch.from_numpy(meant)


def test_it_learns_which_of_two_things_is_meant_in_scenes_it_never_saw() -> None:
    torch.manual_seed(0)
    model = MVLAModel(CONFIG, 4)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    target = torch.zeros((32, 4, 4))
    for step in range(120):
        loss = model.loss(batch_of(step)[0], target, grounding_weight=1.0)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    unseen, meant = batch_of(10_000, 200)
    with torch.no_grad():
        logits = model._tokenize(unseen)[1]
    assert logits is not None
    hits = logits[:, -8:].argmax(1) == meant
    assert hits.float().mean() > 0.95
    other = replace(unseen, instruction=torch.where(unseen.instruction == RED, GREEN, unseen.instruction))
    with torch.no_grad():
        assert (model._tokenize(other)[1][:, -8:].argmax(1) == 5).float().mean() > 0.95  # type: ignore[index]


def test_a_token_dropped_changes_no_other() -> None:
    model, (batch, _) = MVLAModel(CONFIG, 4).eval(), batch_of(0)
    kept = torch.tensor([1, 2, 5]).expand(32, -1)
    with torch.no_grad():
        full, few = model.tokenize(batch), model.tokenize(replace(batch, points_kept=kept))
    torch.testing.assert_close(few.tokens[:, few.visual[-3:]], full.tokens[:, full.visual[-8:][[1, 2, 5]]])


def test_loss_counts_points_below_the_goal_and_leaves_out_samples_without_one() -> None:
    batch, _ = batch_of(0, 2)
    batch.goal = torch.tensor([[0.0, 0.6, 0.2], [math.nan] * 3])
    batch.centres[0] = torch.tensor([0.3, 0.6, 0.1])
    batch.centres[0, 3] = torch.tensor([0.9 * MEANT_M, 0.6, 0.02])
    batch.centres[0, 4] = torch.tensor([0.0, 0.6, 0.2 + 1.1 * MEANT_M])  # above: the hand
    sure = torch.full((2, 8), -20.0)
    sure[0, 3] = 20.0
    sure[1] = torch.tensor([20.0, -20.0] * 4)
    assert _grounding_loss(batch, sure) < 1e-6
    sure[0, 4] = 20.0
    assert _grounding_loss(batch, sure) == pytest.approx(20 / 8, rel=1e-3)
    batch.goal[0] = math.nan
    assert _grounding_loss(batch, sure) == 0


def test_goal_is_where_the_gripper_changes_next_in_the_same_episode() -> None:
    hands = np.arange(18, dtype=np.float32).reshape(6, 3)
    goals = next_contacts(hands, np.array([-1.0, -1, 1, 1, -1, 1]), np.array([0, 1, 2, 3, 0, 1]))
    np.testing.assert_array_equal(goals[:2], hands[[2, 2]])
    np.testing.assert_array_equal(goals[4], hands[5])
    assert np.isnan(goals[[2, 3, 5]]).all()


def test_a_negative_weight_is_refused() -> None:
    with pytest.raises(ValueError, match="grounding_weight must not be negative, got -1"):
        TrainingConfig(grounding_weight=-1)
