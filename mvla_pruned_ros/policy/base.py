"""What a policy must offer to be pruned and run. Implement it to bring your own: docs/your_own_policy.md."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch

from ..pruning.types import Evidence, Selection, TokenLayout
from ..types import ActionFrame, ActionPosition, ActionRotation, ActionSpace, Observation
from .engine.stage_timer import StageTimer


class NotReadyError(RuntimeError):
    """The observation cannot be acted on (too few points, say). Wait for a better one."""


class PreparedInput(Protocol):
    """An observation made ready by the policy, whatever else it holds."""

    @property
    def layout(self) -> TokenLayout:
        """Where the visual tokens of this call lie. The grid of patches lies over the centre square of each view."""


@dataclass(frozen=True)
class PolicyOutput:
    """What one call returns.

    Attributes:
        actions: (chunk, A) float32, physical units, the first for the stamp of the observation.
        evidence: of the visual tokens that were kept, in the order of the selection.
        selection: as it was carried out: the one that was given, after its rule, if it has one, has chosen.
    """

    actions: np.ndarray
    evidence: Evidence
    selection: Selection


class Policy(Protocol):
    """A multi-visual-modal policy: image and point tokens in, a chunk of actions out.

    A class of your own may inherit from this: then what is not abstract has the default that is given here.

    Attributes:
        views: names of the views it takes, see ``Observation``. proprio: features of the robot's state that it takes.
        chunk_size, action_dim, step_s: form of the chunk.
        action_space, action_rotation, action_frame, action_position: what its values mean, see ``ActionForm``.
        device: where it runs; its stages are timed there. device_name: the same for people to read.
        token_bucket: numbers of visual tokens that are multiples of this are the ones it is prepared for; 1 where all
            numbers are alike.
    """

    chunk_size: int
    action_dim: int
    step_s: float
    action_space: ActionSpace = "cartesian_velocity"
    views: tuple[str, ...] = ("image",)
    proprio: tuple[str, ...] = ("ee_position", "gripper")
    action_rotation: ActionRotation = "rotation_vector"
    action_frame: ActionFrame = "base"
    action_position: ActionPosition = "absolute"
    device: torch.device = torch.device("cpu")
    device_name: str = "cpu"
    token_bucket: int = 1

    @abstractmethod
    def reset(self) -> None:
        """Forget the episode, random draws included: the same observations give the same actions after it."""

    @abstractmethod
    def check_instruction(self, instruction: str) -> None:
        """Raise ValueError, saying why, when the policy cannot follow this instruction."""

    @abstractmethod
    def example(self) -> Observation:
        """A made-up observation, with an instruction, that it can act on: it is warmed up on it."""

    @abstractmethod
    def prepare(self, observation: Observation) -> Any:
        """Make an observation ready (``PreparedInput``); raises NotReadyError when it cannot be acted on."""

    @abstractmethod
    def act(self, prepared: Any, selection: Selection, instruction: str, timer: StageTimer) -> PolicyOutput:
        """Encode the tokens the selection keeps, and no others, and predict the actions.

        Args:
            timer: the stages ``tokenize``, ``backbone`` and ``head`` are shown in diagnostics where they are timed.

        Raises:
            ValueError: the selection has a rule and this policy cannot prune inside the call. (A policy that returns
                the selection with its rule is found out.)
        """

    def seal(self) -> None:
        """Warm-up is over: shapes of calls that are met for the first time from here on count as late."""

    @property
    def late_shapes(self) -> int:
        """Shapes that were first met after ``seal``; each was one slow call."""
        return 0

    def memory_mb(self) -> float:
        """Device memory in use, MB; 0 where it is not known."""
        return 0.0
