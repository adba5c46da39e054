"""One description of an MVLA policy; everything that fixes its weights' shapes or its inputs is here."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from ...types import ActionFrame, ActionPosition, ActionRotation, ActionSpace
from ..engine.config import PolicyConfig

SEGMENTS = ("instruction", "proprio", "image", "points", "action")


@dataclass(frozen=True)
class MVLAConfig(PolicyConfig):
    """Configuration of an MVLA policy, after MLA (arXiv 2509.26642). Written as JSON beside the weights.

    The defaults are the shipped ``small`` policy.
    """

    # Sequence. Causal attention: a token sees what stands before it. MLA puts points and image first; with
    # instruction and proprio first the visual tokens are conditioned on the task (ours).
    token_order: tuple[str, ...] = ("instruction", "proprio", "image", "points", "action")
    instruction_length: int = 8  # tokens; shorter ones are padded, longer ones refused

    # What it is shown: views by the names of their streams, and of the robot's state these features, in this order.
    views: tuple[str, ...] = ("image",)
    proprio: tuple[str, ...] = ("ee_position", "gripper")

    # Image tokenizer: of each view the centre square, resampled, in patches; each encoded from its own pixels only.
    image_size: int = 192  # pixels
    patch_size: int = 16  # pixels

    # Point tokenizer: crop, voxel grid, farthest point sampling, then each group from its own neighbours only.
    workspace_lower: tuple[float, float, float] = (-0.45, 0.35, 0.008)  # m, base frame
    workspace_upper: tuple[float, float, float] = (0.45, 0.975, 0.45)  # m, base frame
    voxel_size: float = 0.01  # m
    num_groups: int = 64
    group_size: int = 24  # points
    group_radius: float = 0.05  # m; scale of the neighbourhood, for normalisation
    # Each group also has the colour of the image where its centre is seen (ours). Which of several things is meant is
    # told by colour, and where it is by points; to join a patch with the group of the same place is learned much later.
    point_colour: bool = False
    # Instruction and visual tokens meet before the backbone (ours, see ``tokenizers.Grounding``).
    grounding: bool = False
    min_points: int = 32  # fewer than this in the workspace: the observation is not usable

    # Backbone (transformers' LlamaModel).
    width: int = 128
    depth: int = 4
    heads: int = 4
    mlp_width: int = 256

    # Action head.
    head: Literal["l1", "ddim"] = "l1"
    chunk_size: int = 16  # actions per call
    step_s: float = 0.0125  # s between two actions
    action_dim: int = 4
    action_space: ActionSpace = "cartesian_velocity"  # what the values of an action mean, see ``ActionForm``
    action_rotation: ActionRotation = "rotation_vector"
    action_frame: ActionFrame = "base"
    action_position: ActionPosition = "absolute"
    proprio_dim: int = 4
    ddim_train_steps: int = 100
    ddim_steps: int = 8

    # Evidence for pruning: layers whose action rows of attention are read.
    evidence_layers: tuple[int, ...] = (1, 2, 3)

    def __post_init__(self) -> None:
        if sorted(self.token_order) != sorted(SEGMENTS) or self.token_order[-1] != "action":
            raise ValueError(f"token_order must hold {SEGMENTS} once each, action last; got {self.token_order}")
        if self.image_size % self.patch_size or self.patch_size % 4:
            raise ValueError(
                f"image_size {self.image_size} must be a multiple of patch_size {self.patch_size}, and that of 4"
            )
        if self.head not in ("l1", "ddim"):
            raise ValueError(f"head must be l1 or ddim, got {self.head!r}")
        _ = self.actions  # refuses forms that there are not
        for name in ("width", "depth", "heads", "mlp_width", "chunk_size", "num_groups", "group_size",
                     "instruction_length", "action_dim", "proprio_dim", "min_points", "ddim_steps"):  # fmt: skip
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        for name in ("step_s", "group_radius"):
            if not 0 < getattr(self, name) < float("inf"):
                raise ValueError(f"{name} must be positive, got {getattr(self, name)}")
        if not 0 <= self.voxel_size < float("inf"):
            raise ValueError(f"voxel_size must not be negative, got {self.voxel_size}")
        self.check_inputs()
        self.check_workspace()
        self.check_backbone()

    @property
    def token_pixels(self) -> int:
        return self.patch_size

    def segment_length(self, segment: str) -> int:
        """Tokens of one segment of an unpruned sequence."""
        return {
            "instruction": self.instruction_length,
            "proprio": 1,
            "image": self.num_patches,
            "points": self.num_groups,
            "action": self.chunk_size + (self.head == "ddim"),  # ddim: the timestep token comes first
        }[segment]

    def segment_start(self, segment: str) -> int:
        """Position of the first token of a segment in an unpruned sequence."""
        before = self.token_order[: self.token_order.index(segment)]
        return sum(self.segment_length(s) for s in before)
