"""What is measured: policies that share their weights, and scenes to show them."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ...geometry.poses import look_at
from ...policy.engine.device import resolve_device, resolve_precision
from ...policy.engine.int8 import check_torchao
from ...policy.example import example_state
from ...policy.mla.config import MLAConfig
from ...policy.mla.policy import MLAPolicy
from ...policy.mla.random_weights import random_mla_policy
from ...policy.mvla.config import MVLAConfig
from ...policy.mvla.instruction import InstructionTokenizer
from ...policy.mvla.model import MVLAModel
from ...policy.mvla.normalization import ActionNormalization
from ...policy.mvla.policy import MVLAPolicy
from ...policy.source import load_policy
from ...pruning.tri_stage.config import TriStageConfig
from ...types import CameraModel, Observation, View

INSTRUCTION = "push the puck to the goal"
CAMERA = (640, 480)  # pixels


def resized(
    config: MVLAConfig | MLAConfig, width: int | None = None, depth: int | None = None, image_size: int | None = None,
    groups: int | None = None,
) -> MVLAConfig | MLAConfig:  # fmt: skip
    """A configuration with another size of its backbone or another number of visual tokens.

    Heads keep their size, the MLP its ratio to the width (in steps of 64), and evidence is read at the same quarters of
    the depth.

    Raises:
        ValueError: it does not fit together; the message names the value.
    """
    changes: dict[str, Any] = {}
    if width is not None:
        head = config.width // config.heads
        if width < head or width % head:
            raise ValueError(f"width {width} must be a multiple of the size of a head, {head}")
        mlp_width = max(64, round(config.mlp_width * width / config.width / 64) * 64)
        changes |= {"width": width, "heads": width // head, "mlp_width": mlp_width}
    if depth is not None:
        layers = {min(depth - 1, max(1, layer * depth // config.depth)) for layer in config.evidence_layers}
        changes |= {"depth": depth, "evidence_layers": tuple(sorted(layers))}
    if image_size is not None:
        changes["image_size"] = image_size
    if groups is not None:
        changes |= {"num_points": 4 * groups} if isinstance(config, MLAConfig) else {"num_groups": groups}
    return dataclasses.replace(config, **changes)


@dataclass
class Subject:
    """One set of weights, run in different ways.

    Attributes:
        name: preset or folder. policy: loaded or random. pruning: of tri_stage.
    """

    name: str
    policy: MVLAPolicy | MLAPolicy
    pruning: TriStageConfig

    @classmethod
    def random(cls, name: str, config: MVLAConfig | MLAConfig, device: str, precision: str, seed: int = 0) -> Subject:
        """Random weights: they do not change the time."""
        dtype = resolve_precision(precision, resolve_device(device))
        if isinstance(config, MLAConfig):
            if int8 := precision == "int8":
                check_torchao()
            return cls(name, random_mla_policy(config, device, dtype, seed, int8=int8), TriStageConfig())
        torch.manual_seed(seed)
        tokenizer = InstructionTokenizer.from_instructions([INSTRUCTION], config.instruction_length)
        limits = np.ones(config.action_dim, np.float32)
        model = MVLAModel(config, tokenizer.size).requires_grad_(False)
        policy = MVLAPolicy(model, tokenizer, ActionNormalization(-limits, limits), device, precision=precision)
        return cls(name, policy, TriStageConfig())

    @classmethod
    def trained(cls, folder: Path, device: str, precision: str) -> Subject:
        """A policy folder with the pruning parameters fitted to it."""
        policy = load_policy(folder, device, precision)
        assert isinstance(policy, MVLAPolicy | MLAPolicy), "a folder holds no other"
        return cls(folder.name, policy, TriStageConfig.of_policy(folder))

    @property
    def config(self) -> MVLAConfig | MLAConfig:
        """Configuration of the network."""
        return self.policy.config

    @property
    def dtype(self) -> torch.dtype:
        """Of the backbone's weights."""
        return next(self.policy.model.backbone.layers.parameters()).dtype

    @property
    def denoises(self) -> bool:
        """Whether a call has several passes, so that a prefix can be reused."""
        return self.policy.model.noise_shape is not None

    def run_as(self, recompute: bool, record: bool | None) -> MVLAPolicy | MLAPolicy:
        """The same weights run another way; see ``Executor``."""
        policy, device = self.policy, str(self.policy.device)
        if isinstance(policy, MLAPolicy):
            return MLAPolicy(policy.model, policy.tokenizer, policy.normalization, device, 0, recompute, record)
        precision = {torch.float32: "fp32", torch.bfloat16: "bf16", torch.float16: "fp16"}[self.dtype]
        return MVLAPolicy(policy.model, policy.tokenizer, policy.normalization, device, 0, recompute, record, precision)

    def instruction(self) -> str:
        """One that the policy knows."""
        policy = self.policy
        if isinstance(policy, MLAPolicy) or set(INSTRUCTION.split()) <= set(policy.tokenizer.words):
            return INSTRUCTION
        return policy.tokenizer.words[0]

    def observations(self, calls: int) -> list[Observation]:
        """A gripper that moves over a table with a few things on it, seen by a 640 x 480 camera from the front.

        Made up, so that neither a simulator nor a robot is needed; the noise of pixels does not change the time.
        """
        rng, config = np.random.default_rng(0), self.config
        lower, upper = np.array(config.workspace_lower), np.array(config.workspace_upper)
        size, floor = upper - lower, lower[2] + 0.05 * (upper - lower)[2]
        at = lambda *share: lower + size * np.array(share)  # noqa: E731
        table = np.column_stack([rng.uniform(at(0, 0, 0)[:2], at(1, 1, 0)[:2], (20000, 2)), np.full(20000, floor)])
        things = [at(x, y, 0.1) + rng.normal(0, 0.02, (1500, 3)) for x, y in ((0.3, 0.4), (0.6, 0.5), (0.5, 0.8))]
        camera = _camera_before(at(0.5, -0.6, 1.2), at(0.5, 0.5, 0.1))
        image = rng.integers(0, 256, (CAMERA[1], CAMERA[0], 3), np.uint8)
        observations = []
        for call in range(calls):
            hand = at(0.2 + 0.5 * call / calls, 0.5, 0.4)
            gripper = hand + rng.normal(0, 0.03, (2000, 3))
            points = np.concatenate([table, *things, gripper]).astype(np.float32)
            views = tuple(View(name, image, camera) for name in config.views)
            state = example_state(config, hand)
            observations.append(Observation(call * 10**8, views, points, state, self.instruction()))
        return observations


def _camera_before(position: np.ndarray, target: np.ndarray) -> CameraModel:
    width, height = CAMERA
    return CameraModel(width, height, 0.9 * height, 0.9 * height, width / 2, height / 2, look_at(position, target))
