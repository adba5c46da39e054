"""Behaviour cloning on synthetic demonstrations: it learns, and an interruption changes nothing."""

from __future__ import annotations

import dataclasses
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

pytest.importorskip("metaworld", reason="the simulator extra is not installed: pip install .[train]")

from mvla_pruned_ros.policy.mvla.checkpoint import load_policy_parts
from mvla_pruned_ros.policy.mvla.config import MVLAConfig
from mvla_pruned_ros.policy.mvla.instruction import InstructionTokenizer
from mvla_pruned_ros.policy.mvla.model import Batch, MVLAModel
from mvla_pruned_ros.policy.mvla.normalization import ActionNormalization
from mvla_pruned_ros.policy.mvla.preprocess import prepare
from mvla_pruned_ros.training import loop
from mvla_pruned_ros.training.batches import Batches
from mvla_pruned_ros.training.config import TrainingConfig
from mvla_pruned_ros.training.demonstrations import Demonstrations
from mvla_pruned_ros.training.loop import train
from mvla_pruned_ros.training.ranks import ALONE, Ranks
from mvla_pruned_ros.types import ArmState

SMALL = MVLAConfig(
    image_size=32, num_groups=8, group_size=6, width=32, depth=2, heads=2, mlp_width=32, chunk_size=4,
    evidence_layers=(1,),
)  # fmt: skip
FAST = TrainingConfig(steps=12, batch_size=4, warmup_steps=3, learning_rate=3e-3)


@pytest.fixture(scope="module")
def data() -> Demonstrations:
    """Two tasks that differ in where to go; the way depends on where the arm is."""
    from conftest import make_observation

    rng = np.random.default_rng(0)
    rows: list[tuple[Any, ...]] = []
    for i in range(24):
        hand = rng.uniform([-0.2, 0.5, 0.1, 0], [0.2, 0.7, 0.3, 1]).astype(np.float32)
        task = ("open the faucet", "close the faucet")[i % 2]
        seen = prepare(make_observation(i, state=ArmState(hand[:3], float(hand[3]))), SMALL)
        goal = np.array([0.2 if i % 2 else -0.2, 0.6, 0.1], np.float32)
        action = np.append(goal - hand[:3], 1.0 if i % 2 else -1.0)
        rows.append((seen, np.repeat(action[None], 4, 0).astype(np.float32), task))
    inputs, actions, words = (list(column) for column in zip(*rows))
    return Demonstrations.of(inputs, actions, words, [i // 2 % 4 for i in range(len(inputs))])


def test_early_frames_are_drawn_so_many_times_as_often(data: Demonstrations) -> None:
    """Frames 0 of an episode weigh 3, frames 1 to 3 weigh 1: half of what is drawn. Tasks keep their shares."""
    config = TrainingConfig(steps=30, batch_size=64, early_frames=1, early_weight=3.0)
    words = np.unique(data.instruction)
    tokenizer = InstructionTokenizer.from_instructions(words, SMALL.instruction_length)
    batches = Batches(data, SMALL, config, ActionNormalization.of(data.actions), tokenizer)
    drawn = np.concatenate([batches[step][0].end_effector.numpy() for step in range(30)])
    which = np.abs(drawn[:, None] - data.end_effector[None]).sum(-1).argmin(1)
    assert np.mean(data.frame[which] == 0) == pytest.approx(0.5, abs=0.04)
    assert np.mean(data.instruction[which] == words[0]) == pytest.approx(0.5, abs=0.04)
    with pytest.raises(ValueError, match="early_weight be positive, got 0 and -1"):
        TrainingConfig(early_weight=-1)


def error_of(folder: Path, data: Demonstrations) -> float:
    """Mean absolute error of the policy in ``folder`` on the demonstrations, unpruned, normalised."""
    model, tokenizer, normalization = load_policy_parts(folder)
    batch = Batch(
        *(torch.from_numpy(x) for x in (data.image, data.centres, data.groups.astype(np.float32), data.proprio)),
        torch.from_numpy(data.end_effector),
        torch.from_numpy(np.stack([tokenizer.encode(str(text)) for text in data.instruction])),
    )
    predicted = model.decode(model.tokenize(batch))[0].numpy()
    return float(np.abs(predicted - normalization.normalize(data.actions)).mean())


def batches_of(data: Demonstrations, training: TrainingConfig, ranks: Ranks = ALONE) -> Batches:
    tokenizer = InstructionTokenizer.from_instructions(data.instruction, SMALL.instruction_length)
    return Batches(data, SMALL, training, ActionNormalization.of(data.actions), tokenizer, ranks)


def batch_of(data: Demonstrations, training: TrainingConfig) -> tuple[Batch, torch.Tensor]:
    return batches_of(data, training)[0]


def weights_of(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "model.safetensors")


def test_a_hundred_steps_more_than_halve_the_error(data: Demonstrations, tmp_path: Path) -> None:
    train(data, SMALL, dataclasses.replace(FAST, steps=1), tmp_path / "start")
    train(data, SMALL, dataclasses.replace(FAST, steps=120, batch_size=16), tmp_path / "end")
    start, end = error_of(tmp_path / "start", data), error_of(tmp_path / "end", data)
    assert end < 0.5 * start
    rows = [line.split(",") for line in (tmp_path / "end" / "log.csv").read_text().split()]
    assert [row[0] for row in rows] == ["step", "50", "100"]
    assert float(rows[2][1]) < float(rows[1][1])


def test_ddim_head_learns_too(data: Demonstrations, tmp_path: Path) -> None:
    config = dataclasses.replace(SMALL, head="ddim")
    train(data, config, dataclasses.replace(FAST, steps=100, batch_size=16), tmp_path)
    losses = [float(line.split(",")[1]) for line in (tmp_path / "log.csv").read_text().split()[1:]]
    assert losses[1] < losses[0]


@pytest.mark.parametrize("head", ["l1", "ddim"])
def test_resuming_equals_running_through(
    data: Demonstrations, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, head: Any
) -> None:
    # Instructions as the demonstrations hold them, numpy's own strings, must not keep a checkpoint from being read.
    training = dataclasses.replace(FAST, noise_draws=2, emphasis=tuple((i, 2.0) for i in set(data.instruction)))
    config = dataclasses.replace(SMALL, head=head)
    monkeypatch.setattr(loop, "CHECKPOINT_S", 0.0)
    monkeypatch.setattr(loop, "LOG_EVERY", 4)
    train(data, config, training, tmp_path / "through")

    draw = Batches.__getitem__

    def interrupted(self: Any, step: int) -> Any:
        if step == 8:
            raise KeyboardInterrupt
        return draw(self, step)

    with monkeypatch.context() as patch:
        patch.setattr(Batches, "__getitem__", interrupted)
        with pytest.raises(KeyboardInterrupt):
            train(data, config, training, tmp_path / "resumed")
    halfway = weights_of(tmp_path / "resumed")
    with (tmp_path / "resumed" / "log.csv").open("a") as log:
        log.write("12,0.5,9.9\n")  # of a step after the checkpoint: it is made again
    train(data, config, training, tmp_path / "resumed")

    through, resumed = weights_of(tmp_path / "through"), weights_of(tmp_path / "resumed")
    assert through.keys() == resumed.keys()
    assert all(torch.equal(through[key], resumed[key]) for key in through)
    assert not torch.equal(halfway["action_head.2.bias"], resumed["action_head.2.bias"])
    logs = [
        [row.split(",")[:2] for row in (tmp_path / n / "log.csv").read_text().split()] for n in ("through", "resumed")
    ]
    assert logs[0] == logs[1] and len(logs[0]) == 4
    page = (tmp_path / "resumed" / "learning_curve.html").read_text()
    assert f"{float(logs[0][-1][1]):g}"[:6] in page


def test_noisy_chunks_side_by_side_are_as_if_each_stood_alone(data: Demonstrations) -> None:
    config = dataclasses.replace(SMALL, head="ddim")
    torch.manual_seed(0)
    model = MVLAModel(config, 40)
    batch = batch_of(data, FAST)[0]
    actions = torch.randn(len(batch.proprio), 3, config.segment_length("action"), config.width)
    prefix = model.tokenize(batch)
    together = model._run_side_by_side(prefix, actions).unflatten(0, (-1, 3))
    for i in range(3):
        alone = model.run_backbone(prefix, actions[:, i]).hidden
        torch.testing.assert_close(together[:, i], alone, atol=1e-5, rtol=1e-4)
    assert not torch.allclose(together[:, 0], together[:, 1], atol=1e-2)


def test_several_noises_of_a_sample_give_the_loss_of_a_batch_that_repeats_it(data: Demonstrations) -> None:
    config = dataclasses.replace(SMALL, head="ddim")
    torch.manual_seed(0)
    model = MVLAModel(config, 40)
    batch, target = batch_of(data, FAST)
    repeated = batch._each(lambda tensor: tensor.repeat_interleave(3, 0))
    losses, gradients = [], []
    for b, t, draws in ((batch, target, 3), (repeated, target.repeat_interleave(3, 0), 1)):
        torch.manual_seed(1)
        model.zero_grad()
        loss = model.loss(b, t, draws)
        loss.backward()
        losses.append(loss.detach())
        gradients.append(model.proprio_embedder[0].weight.grad.clone())  # behind the shared prefix
    torch.testing.assert_close(*losses)
    torch.testing.assert_close(*gradients, atol=1e-5, rtol=1e-3)


SCRIPT = """
import sys
from pathlib import Path
import torch
from test_training import FAST, SMALL
from mvla_pruned_ros.training.demonstrations import Demonstrations
from mvla_pruned_ros.training.loop import train
from mvla_pruned_ros.training.ranks import ALONE, Ranks
ranks = Ranks.join(torch.device("cpu"))
assert ranks.world == 2
ranks.wait()
train(Demonstrations.load([Path(sys.argv[1])]), SMALL, FAST, Path(sys.argv[2]), ranks=ranks)
ranks.leave()
"""


def test_two_processes_learn_what_one_learns(data: Demonstrations, tmp_path: Path) -> None:
    train(data, SMALL, FAST, tmp_path / "one")
    data.save(tmp_path / "data.npz")
    script = tmp_path / "two.py"
    script.write_text(SCRIPT)
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", str(script),
               str(tmp_path / "data.npz"), str(tmp_path / "two")]  # fmt: skip
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parent), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stdout + done.stderr
    one, two = weights_of(tmp_path / "one"), weights_of(tmp_path / "two")
    for key in one:
        torch.testing.assert_close(two[key], one[key], atol=2e-5, rtol=1e-3)


def test_a_batch_in_parts_teaches_what_the_whole_one_does(data: Demonstrations, tmp_path: Path) -> None:
    train(data, SMALL, FAST, tmp_path / "whole")
    train(data, SMALL, dataclasses.replace(FAST, micro_batch=3), tmp_path / "parts")  # of 4: three and one
    whole, parts = weights_of(tmp_path / "whole"), weights_of(tmp_path / "parts")
    for key in whole:
        torch.testing.assert_close(parts[key], whole[key], atol=2e-5, rtol=1e-3)


@pytest.mark.filterwarnings("ignore:.*pin_memory.*")  # where there is no GPU nothing is pinned
def test_batches_gathered_ahead_for_a_gpu_are_the_same(data: Demonstrations) -> None:
    batches = batches_of(data, dataclasses.replace(FAST, device="cuda"))
    steps = 0
    for step, (batch, target) in enumerate(batches.loader(3), 3):
        expected, expected_target = batches[step]
        assert torch.equal(target, expected_target)
        for field in dataclasses.fields(Batch):
            got, wanted = getattr(batch, field.name), getattr(expected, field.name)
            assert got is wanted or torch.allclose(got, wanted, rtol=0, atol=0, equal_nan=True)
        steps += 1
    assert steps == FAST.steps - 3


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here to train on")
@pytest.mark.parametrize("compiled", [False, True])
def test_the_ddim_head_learns_on_a_gpu_in_bf16(data: Demonstrations, tmp_path: Path, compiled: bool) -> None:
    config = dataclasses.replace(SMALL, head="ddim")
    training = dataclasses.replace(
        FAST, steps=100, batch_size=16, device="cuda", precision="bf16", noise_draws=4, compile=compiled
    )
    train(data, config, training, tmp_path)
    losses = [float(line.split(",")[1]) for line in (tmp_path / "log.csv").read_text().split()[1:]]
    assert losses[1] < losses[0]


def test_a_batch_that_cannot_be_shared_out_evenly_is_refused(data: Demonstrations) -> None:
    with pytest.raises(ValueError, match="a batch of 4 cannot be shared out evenly to 3"):
        batches_of(data, FAST, Ranks(0, 3))


def test_same_seed_trains_the_same_policy_and_another_seed_another(data: Demonstrations, tmp_path: Path) -> None:
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        train(data, SMALL, dataclasses.replace(FAST, steps=3, seed=seed), tmp_path / name)
    a, b, c = (weights_of(tmp_path / name) for name in "abc")
    assert all(torch.equal(a[key], b[key]) for key in a)
    assert not torch.equal(a["action_queries"], c["action_queries"])


def test_finished_training_is_not_done_again(data: Demonstrations, tmp_path: Path) -> None:
    train(data, SMALL, dataclasses.replace(FAST, steps=3), tmp_path)
    written = (tmp_path / "model.safetensors").stat().st_mtime_ns
    train(data, SMALL, dataclasses.replace(FAST, steps=3), tmp_path)
    assert (tmp_path / "model.safetensors").stat().st_mtime_ns == written


def test_training_goes_on_from_the_weights_words_and_normalisation_of_a_policy(
    data: Demonstrations, tmp_path: Path
) -> None:
    train(data, SMALL, FAST, tmp_path / "first")
    only_one = Demonstrations(*(getattr(data, f.name)[::2] for f in dataclasses.fields(data)))
    still = dataclasses.replace(FAST, steps=1, learning_rate=0.0)
    train(only_one, SMALL, still, tmp_path / "second", start=tmp_path / "first")
    first, second = weights_of(tmp_path / "first"), weights_of(tmp_path / "second")
    assert all(torch.equal(first[key], second[key]) for key in first)
    for name in ("tokenizer.json", "normalization.json"):
        assert (tmp_path / "first" / name).read_text() == (tmp_path / "second" / name).read_text()
    with pytest.raises(ValueError, match="another configuration"):
        train(data, dataclasses.replace(SMALL, depth=3), still, tmp_path / "third", start=tmp_path / "first")


def test_folder_of_another_configuration_is_refused(data: Demonstrations, tmp_path: Path) -> None:
    train(data, SMALL, dataclasses.replace(FAST, steps=2), tmp_path)
    with pytest.raises(ValueError, match="was made with other settings"):
        train(data, SMALL, dataclasses.replace(FAST, steps=2, learning_rate=1e-4), tmp_path)


def share_of(words: str, data: Demonstrations, training: TrainingConfig) -> float:
    """Of the samples of a batch those with this instruction."""
    tokenizer = InstructionTokenizer.from_instructions(data.instruction, SMALL.instruction_length)
    ids = batch_of(data, training)[0].instruction
    return float((ids == torch.from_numpy(tokenizer.encode(words))).all(1).float().mean())


def test_emphasis_draws_an_instruction_more_often(data: Demonstrations) -> None:
    training = dataclasses.replace(FAST, batch_size=400, emphasis=(("close the faucet", 3.0),))
    others = len(set(data.instruction.tolist())) - 1
    assert abs(share_of("close the faucet", data, training) - 3 / (3 + others)) < 0.08
    with pytest.raises(ValueError, match="not in the data: \\['fly'\\]"):
        batches_of(data, dataclasses.replace(FAST, emphasis=(("fly", 1.0),)))


def test_batches_show_every_instruction_equally_often(data: Demonstrations) -> None:
    few = np.concatenate([np.arange(0, 24, 2), [1]])  # twelve frames of one task, one of the other
    part = Demonstrations(*(getattr(data, f.name)[few] for f in dataclasses.fields(data)))
    assert 0.42 < share_of("close the faucet", part, dataclasses.replace(FAST, batch_size=400)) < 0.58


def test_dropped_tokens_are_drawn_per_sample_at_one_of_the_ratios(data: Demonstrations) -> None:
    points_kept = batch_of(data, dataclasses.replace(FAST, keep_ratios=(0.5,), keep_weights=(1.0,)))[0].points_kept
    assert points_kept is not None and points_kept.shape == (4, 4)
    assert (points_kept.diff(dim=1) > 0).all(), "ascending, no token twice"
    assert not (points_kept == points_kept[0]).all()


def test_background_is_dropped_first_and_never_alone(data: Demonstrations) -> None:
    half = dataclasses.replace(FAST, batch_size=200, keep_ratios=(0.5,), keep_weights=(1.0,))
    patches = SMALL.num_patches
    seen = dataclasses.replace(data, occupied=np.tile(np.arange(patches) < patches // 2, (len(data), 1)))

    def share_occupied(weight: float) -> float:
        kept = batch_of(seen, dataclasses.replace(half, background_weight=weight))[0].image_kept
        assert kept is not None and kept.shape == (200, patches // 2)
        assert (kept.diff(dim=1) > 0).all()
        return float((kept < patches // 2).float().mean())

    assert 0.4 < share_occupied(1.0) < 0.6
    assert 0.8 < share_occupied(0.05) < 1.0, "background too is seen now and then"


def test_last_steps_see_all_tokens(data: Demonstrations) -> None:
    training = dataclasses.replace(FAST, keep_ratios=(0.5,), keep_weights=(1.0,), all_tokens_from=0.75)
    kept = [batch.image_kept is None and batch.points_kept is None for batch, _ in batches_of(data, training).loader(0)]
    assert kept == [False] * 9 + [True] * 3


@pytest.mark.parametrize(
    "change, message",
    [
        ({"background_weight": 0.0}, r"background_weight must lie in \(0, 1\], got 0.0"),
        ({"all_tokens_from": 1.1}, r"all_tokens_from must lie in \[0, 1\], got 1.1"),
        ({"keep_ratios": (1.0,)}, "1 keep_ratios but 3 keep_weights"),
        ({"keep_ratios": (1.0, 0.0, 0.5)}, r"keep_ratios must lie in \(0, 1\]"),
        ({"micro_batch": -1}, "micro_batch must not be negative, got -1"),
        ({"noise_draws": 0}, "noise_draws must be at least 1, got 0"),
        ({"precision": "fp16"}, "precision must be bf16 or fp32, got 'fp16'"),
    ],
)
def test_impossible_settings_are_refused_by_name(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(FAST, **change)


def test_learning_rate_warms_up_and_decays_to_zero() -> None:
    config = TrainingConfig(steps=100, warmup_steps=10, learning_rate=1.0)
    rates = [config.rate_at(step) for step in (0, 9, 10, 55, 100)]
    np.testing.assert_allclose(rates, [0.1, 1.0, 1.0, 0.5, 0.0], atol=1e-9)


def test_demonstrations_are_read_back(data: Demonstrations, tmp_path: Path) -> None:
    data.save(tmp_path / "shard.npz")
    again = Demonstrations.load([tmp_path / "shard.npz"])
    for field in dataclasses.fields(data):
        np.testing.assert_array_equal(getattr(again, field.name), getattr(data, field.name))
    both = Demonstrations.load([tmp_path / "shard.npz"] * 2)
    for field in dataclasses.fields(data):
        np.testing.assert_array_equal(
            getattr(both, field.name), getattr(Demonstrations.concatenate([data, again]), field.name)
        )
