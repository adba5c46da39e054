"""What all policies of this package have in common: a network, an executor, inputs that go to its device."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from ...pruning.types import Selection
from ..base import PolicyOutput
from .executor import Executor
from .network import PolicyNetwork
from .stage_timer import StageTimer

# Numbers of visual tokens for which there are graphs; matrix kernels like multiples of 8 best.
GRAPH_BUCKET = 8


class TorchPolicy:
    """See ``Policy``. Subclasses say how an observation becomes a batch and a chunk becomes actions. Not safe to call
    from two threads at once.

    Attributes:
        accelerator: the seam to its device.
        tokenizer: has ``encode`` from words to token ids, which raises ValueError for words it cannot follow.
    """

    tokenizer: Any

    def __init__(
        self, model: PolicyNetwork, device: torch.device, seed: int, recompute: bool, record: bool | None
    ) -> None:
        """
        Args:
            model: on ``device``, in eval mode and its precision. seed, recompute, record: see ``Executor``.
        """
        self.device, config = device, model.config
        self.chunk_size, self.action_dim, self.step_s = config.chunk_size, config.action_dim, config.step_s
        self.views, self.proprio = config.views, config.proprio
        form = config.actions
        self.action_space, self.action_rotation = form.space, form.rotation
        self.action_frame, self.action_position = form.frame, form.position
        self._executor = Executor(model, device, seed, recompute, record)
        self.accelerator = self._executor.accelerator
        self.device_name = self.accelerator.name
        self.token_bucket = GRAPH_BUCKET if device.type == "cuda" and self._executor.recorded else 1

    def reset(self) -> None:
        self._executor.reset()

    def check_instruction(self, instruction: str) -> None:
        self.tokenizer.encode(instruction)

    def seal(self) -> None:
        if self._executor.recorded is not None:
            self._executor.recorded.seal()

    @property
    def late_shapes(self) -> int:
        return 0 if self._executor.recorded is None else len(self._executor.recorded.late)

    def memory_mb(self) -> float:
        return self.accelerator.allocated_mib()

    def act(self, prepared: Any, selection: Selection, instruction: str, timer: StageTimer) -> PolicyOutput:
        """See ``Policy.act``. A full selection runs the very same way as no pruning."""
        with timer.stage("tokenize"):
            batch = self._batch(prepared, selection, instruction)
        result = self._executor.run(batch, selection.rule, timer)
        if selection.rule is not None:
            selection = selection.after_rule(result.chosen, result.computed)
        return PolicyOutput(self._actions(result.chunk), result.evidence, selection)

    def _batch(self, prepared: Any, selection: Selection, instruction: str) -> Any:
        """What the model's ``tokenize`` takes."""
        raise NotImplementedError

    def _actions(self, chunk: np.ndarray) -> np.ndarray:
        """(chunk, A) normalised -> physical units."""
        raise NotImplementedError

    def _tensor(self, x: np.ndarray) -> torch.Tensor:
        """A batch of one on the device."""
        return self.accelerator.upload(torch.from_numpy(np.ascontiguousarray(x))[None])

    def _kept(self, selection: Selection) -> dict[str, torch.Tensor | None]:
        """Which tokens stay, as every batch names them: None for all."""
        if selection.is_full:
            return {"image_kept": None, "points_kept": None}
        return {"image_kept": self._tensor(selection.image_kept), "points_kept": self._tensor(selection.points_kept)}
