"""The shipped MVLA policy: weights, tokenizer and normalisation behind the policy interface."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from ..pruning.types import Selection
from ..types import Observation
from .checkpoint import load_policy_parts
from .device import cast_parameters, resolve_device, resolve_precision, to_device
from .executor import Executor
from .inputs import PolicyInput, prepare
from .instruction import InstructionTokenizer
from .interface import PolicyOutput
from .model import Batch, MVLAModel
from .normalization import ActionNormalization
from .stage_timer import StageTimer

# Numbers of visual tokens for which there are graphs; matrix kernels like multiples of 8 best.
GRAPH_BUCKET = 8


class MVLAPolicy:
    """An MVLA policy ready to act. Not safe to call from two threads at once."""

    def __init__(
        self,
        model: MVLAModel,
        tokenizer: InstructionTokenizer,
        normalization: ActionNormalization,
        device: str = "cpu",
        seed: int = 0,
        recompute: bool = False,
        static: bool | None = None,
        precision: str = "auto",
    ) -> None:
        """
        Args:
            device: see ``resolve_device``. precision: see ``resolve_precision``; the weights of ``model`` are cast.
            seed: of the ddim head's noise. recompute, static: see ``Executor``.
        """
        self.device = resolve_device(device)
        self.model = model.to(self.device).eval()
        cast_parameters(self.model, resolve_precision(precision, self.device))
        self.config = model.config
        self.tokenizer, self.normalization = tokenizer, normalization
        self.chunk_size, self.action_dim = self.config.chunk_size, self.config.action_dim
        self.step_s = self.config.step_s
        self.device_name = torch.cuda.get_device_name(self.device) if self.device.type == "cuda" else "cpu"
        self._executor = Executor(self.model, self.device, seed, recompute, static)
        self.token_bucket = GRAPH_BUCKET if self.device.type == "cuda" and self._executor.static else 1

    @classmethod
    def load(cls, folder: Path | str, device: str = "cpu", precision: str = "auto") -> MVLAPolicy:
        """Read a policy folder; raises CheckpointError or ValueError with the remedy."""
        resolve_precision(precision, resolve_device(device))
        return cls(*load_policy_parts(Path(folder)), device=device, precision=precision)

    def reset(self) -> None:
        self._executor.reset()

    def check_instruction(self, instruction: str) -> None:
        self.tokenizer.encode(instruction)

    def prepare(self, observation: Observation) -> PolicyInput:
        return prepare(observation, self.config)

    def seal(self) -> None:
        if self._executor.static is not None:
            self._executor.static.seal()

    @property
    def late_shapes(self) -> int:
        return 0 if self._executor.static is None else len(self._executor.static.late)

    def memory_mb(self) -> float:
        return torch.cuda.memory_allocated(self.device) / 2**20 if self.device.type == "cuda" else 0.0

    def act(self, prepared: PolicyInput, selection: Selection, instruction: str, timer: StageTimer) -> PolicyOutput:
        """See ``Policy.act``. A full selection runs the very same way as no pruning."""
        with timer.stage("tokenize"):
            batch = self._batch(prepared, selection, instruction)
        result = self._executor.run(batch, selection.rule, timer)
        if result.chosen is not None:
            selection = selection.after_rule(result.chosen)
        return PolicyOutput(self.normalization.denormalize(result.chunk), result.evidence, selection)

    def _batch(self, prepared: PolicyInput, selection: Selection, instruction: str) -> Batch:
        def tensor(x: np.ndarray) -> torch.Tensor:
            return to_device(torch.from_numpy(np.ascontiguousarray(x))[None], self.device)

        full = selection.is_full
        return Batch(
            image=tensor(prepared.image),
            centres=tensor(prepared.centres),
            groups=tensor(prepared.groups),
            proprio=tensor(prepared.proprio),
            instruction=tensor(self.tokenizer.encode(instruction)),
            image_kept=None if full else tensor(selection.image_kept),
            points_kept=None if full else tensor(selection.points_kept),
        )
