"""The upstream MLA policy behind the policy interface."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ...pruning.types import Selection
from ...types import Observation
from ..engine.device import cast_parameters, has_products, resolve_device, resolve_precision
from ..engine.int8 import check_torchao
from ..engine.torch_policy import TorchPolicy
from ..example import example_observation
from .checkpoint import load_mla_parts
from .model import MLABatch, MLAModel
from .normalization import GRIPPERS, MLANormalization
from .preprocess import MLAInput, prepare
from .prompt import PromptTokenizer


class MLAPolicy(TorchPolicy):
    """An MLA policy ready to act.

    Proprio has 7 values: position (m), Euler angles x, y, z (rad, about fixed axes), gripper 0 (closed) to 1 (open); it
    is the pose that was last commanded. Of an action the position is a step from where the end effector is, the angles
    are absolute, and the gripper is -1 (open) or 1 (close), as of all policies here; upstream's are 1 and 0.
    """

    def __init__(
        self,
        model: MLAModel,
        tokenizer: PromptTokenizer,
        normalization: MLANormalization,
        device: str = "cpu",
        seed: int = 0,
        recompute: bool = False,
        record: bool | None = None,
    ) -> None:
        """
        Args:
            model: on the device already. device: see ``resolve_device``. seed: of the noise.
            recompute, record: see ``Executor``.
        """
        self.model, self.config = model, model.config
        self.tokenizer, self.normalization = tokenizer, normalization
        super().__init__(model, resolve_device(device), seed, recompute, record)

    @classmethod
    def load(cls, folder: Path | str, device: str = "cpu", precision: str = "auto") -> MLAPolicy:
        """Read a folder of ``mvla convert``; raises CheckpointError or ValueError with the remedy.

        Args:
            precision: see ``resolve_precision``, but ``auto`` leaves the weights in the precision they have on disk,
                or takes fp32 on a CPU that does not multiply in that; ``int8`` holds the backbone's in 8 bits, half
                the memory of bf16.
        """
        target = resolve_device(device)
        dtype, int8 = resolve_precision(precision, target), precision == "int8"
        if int8:
            check_torchao()
        model, tokenizer, normalization = load_mla_parts(Path(folder), target, int8)
        as_on_disk = precision == "auto" and has_products(target, model.dtype)
        if not int8 and not as_on_disk:
            cast_parameters(model, dtype)
        return cls(model, tokenizer, normalization, device=device)

    def example(self) -> Observation:
        return example_observation(self.config, "open the drawer")

    def prepare(self, observation: Observation) -> MLAInput:
        return prepare(observation, self.config)

    def _actions(self, chunk: np.ndarray) -> np.ndarray:
        actions = self.normalization.actions(chunk)
        actions[:, GRIPPERS] = 1 - 2 * actions[:, GRIPPERS]
        return actions

    def _batch(self, prepared: MLAInput, selection: Selection, instruction: str) -> MLABatch:
        return MLABatch(
            image=self._tensor(prepared.image),
            points=self._tensor(prepared.points),
            first=self._tensor(prepared.first),
            second=self._tensor(prepared.second),
            proprio=self._tensor(self.normalization.proprio.normalize(prepared.proprio)),
            prompt=self._tensor(self.tokenizer.encode(instruction)),
            **self._kept(selection),
        )
