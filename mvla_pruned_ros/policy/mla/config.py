"""One description of an MLA policy: sizes of its network, its sequence, its inputs and actions."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

from ...control.action_spaces import ActionForm
from ..engine.config import PolicyConfig

ARCHITECTURE = "mla"


@dataclass(frozen=True)
class MLAConfig(PolicyConfig):
    """Configuration of an MLA policy (arXiv 2509.26642). Written as JSON beside the weights.

    The defaults are upstream's for RLBench: Llama-2-7B, one view, one action per call.
    """

    architecture: str = ARCHITECTURE

    # What it is shown: the front view first; further ones append as many tokens each.
    views: tuple[str, ...] = ("image",)
    proprio: tuple[str, ...] = ("last_command_position", "last_command_euler_xyz", "gripper")

    # 2D tower: one token per window of patches, each encoded from its own pixels only.
    image_size: int = 672  # pixels
    patch_size: int = 14  # pixels
    window: int = 3  # patches along one edge of a token
    image_width: int = 1024
    image_heads: int = 8

    # 3D tower: crop, thin, farthest point sampling to num_points; the tower halves them twice.
    workspace_lower: tuple[float, float, float] = (-1.5, -1.5, 0.76)  # m, base frame
    workspace_upper: tuple[float, float, float] = (1.5, 1.5, 3.0)  # m, base frame
    voxel_size: float = 0.01  # m; 0 samples from every point, as upstream does (ours: thinned first, for speed)
    min_points: int = 32  # fewer than this in the workspace: the observation is not usable
    num_points: int = 1024
    neighbours: int = 81  # of each group, in both stages
    point_width: int = 96  # of a point; doubled by each stage
    point_token_width: int = 768

    # Sequence. Upstream infers with the blank token after the action, where nothing sees it, and seems to have trained
    # with it before proprio.
    blank_before_proprio: bool = False
    blank_token: int = 29871  # Llama's empty word
    start_token: int = 1  # beginning of sequence
    max_prompt_tokens: int = 256

    # Backbone (transformers' LlamaModel).
    vocabulary: int = 32064
    width: int = 4096
    depth: int = 32
    heads: int = 32
    mlp_width: int = 11008
    norm_eps: float = 1e-5

    # Action head.
    chunk_size: int = 1  # actions per call
    step_s: float = 0.1  # s given to one action; upstream waits until each pose is reached
    action_dim: int = 7
    proprio_dim: int = 7
    ddim_train_steps: int = 100
    ddim_steps: int = 8

    # Evidence for pruning: layers whose action rows of attention are read.
    evidence_layers: tuple[int, ...] = (8, 16, 24)

    @property
    def actions(self) -> ActionForm:
        """Steps of the position and absolute angles; fixed by the architecture."""
        return ActionForm("cartesian_pose", "euler_xyz", position="step")

    def __post_init__(self) -> None:
        if self.architecture != ARCHITECTURE:
            raise ValueError(f"architecture is {self.architecture!r}, not {ARCHITECTURE!r}")
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if type(value) is int and value < 1:
                raise ValueError(f"{field.name} must be at least 1, got {value}")
        if self.image_size % self.token_pixels:
            raise ValueError(
                f"image_size {self.image_size} must be a multiple of patch_size {self.patch_size} "
                f"x window {self.window}"
            )
        if self.image_width % self.image_heads:
            raise ValueError(f"image_width {self.image_width} must be a multiple of image_heads {self.image_heads}")
        if self.num_points % 4 or self.neighbours > self.num_points // 2:
            raise ValueError(
                f"num_points {self.num_points} must be a multiple of 4, and at least twice neighbours {self.neighbours}"
            )
        if self.point_width % 3:
            raise ValueError(f"point_width {self.point_width} must be a multiple of 3, for as many axes")
        self.check_backbone()
        if self.action_dim not in (7, 14) or self.proprio_dim != self.action_dim:
            raise ValueError(
                f"action_dim {self.action_dim} and proprio_dim {self.proprio_dim} must both be 7, or 14 for two arms"
            )
        if not 0 < self.step_s < float("inf") or not 0 <= self.voxel_size < float("inf"):
            raise ValueError(f"step_s {self.step_s} must be positive, voxel_size {self.voxel_size} not negative")
        if self.proprio_dim == 7:
            self.check_inputs()
        self.check_workspace()
        for name in ("start_token", "blank_token"):
            if getattr(self, name) >= self.vocabulary:
                raise ValueError(f"{name} {getattr(self, name)} is outside the vocabulary of {self.vocabulary}")

    @property
    def token_pixels(self) -> int:
        """Pixels along one edge of an image token."""
        return self.patch_size * self.window

    @property
    def num_groups(self) -> int:
        """Point tokens."""
        return self.num_points // 4
