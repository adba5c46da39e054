"""The MLA policy computes what upstream's own modules compute.

Recorded (``data/mla_parity.npz``) by running upstream's public code (commit 072f5d8: VisionTokenizer, PointTokenizer,
PrismaticVLM.forward with its LlamaForCausalLM of transformers 4.40.1, timm 0.9.10's Mlp and RmsNorm, and
ddim_sample_loop with 8 of 100 steps) in fp32 on a CPU, on the weights of ``mla_checkpoint``. In the copy that was run
the first index of farthest point sampling was fixed to 0 and the casts of proprio, x and t to bfloat16 were taken out;
imports that inference does not use (torch_geometric, torch_scatter, visualisation) were stubbed. No operator was
replaced: upstream's sampling and neighbours are plain torch.

Largest difference over the largest value, all tokens, when it was recorded; ``wide`` has towers and backbone of
width 1024, 6 layers and 256 + 256 tokens, and is not kept here:

                      front    views    wide
    pixels            1.3e-7   1.3e-7   1.3e-7
    2D tokens         4.1e-7   4.3e-7   5.5e-7
    3D tokens         5.1e-7   4.3e-7   4.8e-7
    projected         6.8e-7   8.7e-7   6.5e-7
    backbone          2.9e-7   3.7e-7   5.3e-7
    first noise       7.5e-7   6.5e-7   9.6e-7
    action, reuse     2.2e-7   5.3e-7   2.9e-7
    action, no reuse  3.7e-7   5.3e-7   2.9e-7
"""

from __future__ import annotations

import numpy as np
import pytest
import torch
from mla_checkpoint import recorded, write_run

from mvla_pruned_ros.policy.mla.checkpoint import load_mla_parts
from mvla_pruned_ros.policy.mla.config import MLAConfig
from mvla_pruned_ros.policy.mla.convert import convert
from mvla_pruned_ros.policy.mla.model import MLABatch, MLAModel
from mvla_pruned_ros.policy.mla.point_tower import sample_groups
from mvla_pruned_ros.policy.mla.preprocess import clip_image
from mvla_pruned_ros.policy.mvla.preprocess import token_layout
from mvla_pruned_ros.types import CameraModel

TOLERANCE = 1e-4
# How the recorded cases differ: views, actions per call, whether the empty word stands before proprio.
CASES = {"front": (1, 1, False), "views": (2, 3, True)}


def assert_close(ours: torch.Tensor, name: str, every: int = 1) -> None:
    """Every so many rows of ours against the recorded ones."""
    theirs = recorded()[name]
    difference = np.abs(ours[::every].numpy() - theirs).max() / np.abs(theirs).max()
    assert ours[::every].shape == theirs.shape and difference < TOLERANCE, f"{name} differs by {difference:.1e}"


@pytest.fixture(scope="module", params=CASES)
def case(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, MLAModel, MLABatch]:
    """A converted policy and upstream's inputs."""
    name, (views, chunk, before) = request.param, CASES[request.param]
    folder = tmp_path_factory.mktemp(name)
    run = write_run(folder / "run", future_action_window_size=chunk - 1)
    out = folder / "out"
    convert(run, out, overrides=run / "sizes.json", blank_before_proprio=before, dtype=torch.float32)
    model = load_mla_parts(out, torch.device("cpu"))[0]
    data = {key: recorded()[f"{name}.{key}"] for key in ("images", "points", "proprio", "prompt")}
    camera = CameraModel(80, 60, 90.0, 90.0, 40.0, 30.0, np.eye(4))
    images = np.stack([clip_image(image, camera, 672)[0] for image in data["images"]])
    assert len(images) == views
    points = torch.from_numpy(data["points"])[None]
    return name, model, MLABatch(
        torch.from_numpy(images)[None], points, *sample_groups(points), torch.from_numpy(data["proprio"])[None],
        torch.from_numpy(data["prompt"].astype(np.int64))[None],
    )  # fmt: skip


@torch.inference_mode()
def test_towers(case: tuple[str, MLAModel, MLABatch]) -> None:
    name, model, batch = case
    assert_close(model.image_tower(batch.image[:, :1])[0], f"{name}.tokens_2d", 8)
    assert_close(model.point_tower(batch.points, batch.first, batch.second)[0], f"{name}.tokens_3d", 8)


@torch.inference_mode()
def test_projected_tokens_backbone_and_action(case: tuple[str, MLAModel, MLABatch]) -> None:
    name, model, batch = case
    prefix = model.tokenize(batch)
    image, points = prefix.visual[: prefix.num_image], prefix.visual[prefix.num_image :]
    tactile = prefix.visual.max() + 1
    assert_close(prefix.tokens[0, torch.cat([points, image, tactile[None]])], f"{name}.projected", 8)
    noise = torch.from_numpy(recorded()[f"{name}.noise"])
    first = torch.full((1,), model.timesteps[0])
    out = model.run_backbone(prefix, model.noisy_tokens(noise, model.time_tokens(first)))
    assert_close(model.noise_head(out.hidden[:, 1:]), f"{name}.noise_hat")
    for reuse in (True, False):
        assert_close(model.decode(prefix, noise=noise, reuse_prefix=reuse)[0][0], f"{name}.sample")


@torch.inference_mode()
def test_backbone_output_of_every_token(case: tuple[str, MLAModel, MLABatch]) -> None:
    """The whole sequence as one action segment, with upstream's trailing empty word behind it."""
    name, model, batch = case
    prefix = model.tokenize(batch)
    noise = torch.from_numpy(recorded()[f"{name}.noise"])
    blank = model.backbone.embed_tokens(torch.tensor([[model.config.blank_token]]))
    action = torch.cat([model.noisy_tokens(noise, model.time_tokens(torch.full((1,), model.timesteps[0]))), blank], 1)
    start = type(prefix)(prefix.tokens[:, :1], prefix.positions[:, :1], prefix.visual[:0], 0)
    rest = torch.cat([prefix.tokens[:, 1:], action], 1)
    out = model.run_backbone(start, rest)
    theirs = recorded()[f"{name}.hidden_first"]
    rows = np.arange(0, rest.shape[1] + 1, 8)[1:] - 1  # token 0 is the prefix here
    ours = out.hidden[0, rows].numpy()
    assert np.abs(ours - theirs[1:]).max() / np.abs(theirs).max() < TOLERANCE


def test_patches_of_point_groups_in_the_camera_of_rlbench() -> None:
    """Upstream's focal lengths are negative: its camera looks along z with x and y the other way round."""
    rotation = np.array([[0, -0.422617942, -0.906307936], [-1, 0, 0], [0, 0.906307936, -0.422617912]])
    pose = np.eye(4)
    pose[:3, :3], pose[:3, 3] = rotation @ np.diag([-1, -1, 1]), [1.34999919, 0, 1.57999933]
    camera = CameraModel(224, 224, 307.7174807, 307.7174807, 112, 112, pose).resized(672, 672)
    points = recorded()["front.points"]
    first, second = (index[0].numpy() for index in sample_groups(torch.from_numpy(points)[None]))
    layout = token_layout(points, points[first[second]], {"front": camera}, MLAConfig(), np.zeros(3))
    row, column = recorded()["front.patch"].T.astype(int)
    np.testing.assert_array_equal(layout.point_patches[0], np.where(recorded()["front.valid"], row * 16 + column, -1))
