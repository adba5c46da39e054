"""The upstream MLA policy behind the policy interface."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from ...pruning.types import Selection
from ...types import Observation
from ..device import resolve_device
from ..executor import Executor
from ..interface import PolicyOutput, StageTimer
from .checkpoint import load_mla_parts
from .inputs import MLAInput, prepare
from .model import MLABatch, MLAModel
from .prompt import PromptTokenizer
from .statistics import MLANormalization


class MLAPolicy:
    """An MLA policy ready to act. Not safe to call from two threads at once.

    Proprio and actions have 7 values: position (m), Euler angles x, y, z (rad), gripper 0 (closed) to 1 (open). Proprio
    is the pose that was last commanded. Of an action the position is a step from where the end effector is, the angles
    are absolute, and the gripper is 0 or 1.
    """

    def __init__(
        self,
        model: MLAModel,
        tokenizer: PromptTokenizer,
        normalization: MLANormalization,
        device: str = "cpu",
        seed: int = 0,
        recompute: bool = False,
    ) -> None:
        """
        Args:
            model: on the device already. device: see ``resolve_device``. seed: of the noise.
            recompute: see ``Executor``.
        """
        self.device = resolve_device(device)
        self.model, self.config = model, model.config
        self.tokenizer, self.normalization = tokenizer, normalization
        self.chunk_size, self.action_dim = self.config.chunk_size, self.config.action_dim
        self.step_s = self.config.step_s
        self.device_name = torch.cuda.get_device_name(self.device) if self.device.type == "cuda" else "cpu"
        self._executor = Executor(self.model, self.device, seed, recompute)

    @classmethod
    def load(cls, folder: Path | str, device: str = "cpu") -> MLAPolicy:
        """Read a folder of ``mvla convert``; raises CheckpointError or ValueError with the remedy."""
        return cls(*load_mla_parts(Path(folder), resolve_device(device)), device=device)

    def reset(self) -> None:
        self._executor.reset()

    def check_instruction(self, instruction: str) -> None:
        self.tokenizer.encode(instruction)

    def prepare(self, observation: Observation) -> MLAInput:
        return prepare(observation, self.config)

    def memory_mb(self) -> float:
        return torch.cuda.memory_allocated(self.device) / 2**20 if self.device.type == "cuda" else 0.0

    def act(self, prepared: MLAInput, selection: Selection, instruction: str, timer: StageTimer) -> PolicyOutput:
        """See ``Policy.act``. A full selection runs the very same way as no pruning."""
        with timer.stage("tokenize"):
            batch = self._batch(prepared, selection, instruction)
        result = self._executor.run(batch, selection.rule, timer)
        if result.chosen is not None:
            selection = selection.after_rule(result.chosen)
        return PolicyOutput(self.normalization.actions(result.chunk), result.evidence, selection)

    def _batch(self, prepared: MLAInput, selection: Selection, instruction: str) -> MLABatch:
        def tensor(x: np.ndarray) -> torch.Tensor:
            return torch.from_numpy(np.ascontiguousarray(x))[None].to(self.device)

        full = selection.is_full
        return MLABatch(
            image=tensor(prepared.image),
            points=tensor(prepared.points),
            first=tensor(prepared.first),
            second=tensor(prepared.second),
            proprio=tensor(self.normalization.proprio.normalize(prepared.proprio)),
            prompt=tensor(self.tokenizer.encode(instruction)),
            image_kept=None if full else tensor(selection.image_kept),
            points_kept=None if full else tensor(selection.points_kept),
        )
