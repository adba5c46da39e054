"""The shipped MVLA policy: weights, tokenizer and normalisation behind the policy interface."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ...pruning.types import Selection
from ...types import Observation
from ..engine.device import cast_parameters, resolve_device, resolve_precision
from ..engine.torch_policy import TorchPolicy
from ..example import example_observation
from .checkpoint import load_policy_parts
from .instruction import InstructionTokenizer
from .model import Batch, MVLAModel
from .normalization import ActionNormalization
from .preprocess import PointGroups, PolicyInput, group_points, prepare


class MVLAPolicy(TorchPolicy):
    """An MVLA policy ready to act."""

    def __init__(
        self,
        model: MVLAModel,
        tokenizer: InstructionTokenizer,
        normalization: ActionNormalization,
        device: str = "cpu",
        seed: int = 0,
        recompute: bool = False,
        record: bool | None = None,
        precision: str = "auto",
    ) -> None:
        """
        Args:
            device: see ``resolve_device``. precision: see ``resolve_precision``; the weights of ``model`` are cast.
            seed: of the ddim head's noise. recompute, record: see ``Executor``.
        """
        target = resolve_device(device)
        if precision == "int8":
            raise ValueError("precision 'int8' is for MLA policies, this one is small: use bf16, fp32 or auto")
        self.model, self.config = model.to(target).eval(), model.config
        cast_parameters(self.model, resolve_precision(precision, target))
        self.tokenizer, self.normalization = tokenizer, normalization
        self._grouped: tuple[np.ndarray, PointGroups] | None = None
        super().__init__(self.model, target, seed, recompute, record)

    @classmethod
    def load(cls, folder: Path | str, device: str = "cpu", precision: str = "auto") -> MVLAPolicy:
        """Read a policy folder; raises CheckpointError or ValueError with the remedy."""
        resolve_precision(precision, resolve_device(device))
        return cls(*load_policy_parts(Path(folder)), device=device, precision=precision)

    def example(self) -> Observation:
        return example_observation(self.config, self.tokenizer.words[0])

    def prepare(self, observation: Observation) -> PolicyInput:
        """A cloud that serves several images (the same array) is thinned and grouped once."""
        if self._grouped is None or self._grouped[0] is not observation.points:
            self._grouped = observation.points, group_points(observation.points, self.config)
        return prepare(observation, self.config, self._grouped[1])

    def _actions(self, chunk: np.ndarray) -> np.ndarray:
        return self.normalization.denormalize(chunk)

    def _batch(self, prepared: PolicyInput, selection: Selection, instruction: str) -> Batch:
        return Batch(
            image=self._tensor(prepared.image),
            centres=self._tensor(prepared.centres),
            groups=self._tensor(prepared.groups),
            proprio=self._tensor(prepared.proprio),
            end_effector=self._tensor(prepared.end_effector),
            instruction=self._tensor(self.tokenizer.encode(instruction)),
            colours=self._tensor(prepared.colours) if self.config.point_colour else None,
            **self._kept(selection),
        )
