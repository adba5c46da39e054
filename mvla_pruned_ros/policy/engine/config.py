"""What the configurations of all architectures have in common."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path
from typing import Any, TypeVar

from ...configuration.files import write_json
from ...configuration.reader import read_config, read_json
from ...control.action_spaces import ActionForm
from ..proprio import check_features

Config = TypeVar("Config", bound="PolicyConfig")


class PolicyConfig:
    """Sizes of a network, its inputs and its actions; of subclasses, which are dataclasses, see the fields."""

    views: tuple[str, ...]
    proprio: tuple[str, ...]
    image_size: int
    workspace_lower: tuple[float, float, float]
    workspace_upper: tuple[float, float, float]
    voxel_size: float
    min_points: int
    width: int
    depth: int
    heads: int
    mlp_width: int
    chunk_size: int
    step_s: float
    action_dim: int
    proprio_dim: int
    ddim_steps: int
    evidence_layers: tuple[int, ...]

    @property
    def actions(self) -> ActionForm:
        """What the values of an action mean."""
        return ActionForm.of(self)

    @property
    def token_pixels(self) -> int:
        """Pixels along one edge of an image token."""
        raise NotImplementedError

    @property
    def num_groups(self) -> int:
        """Point tokens."""
        raise NotImplementedError

    @property
    def grid(self) -> int:
        """Image tokens along one edge of the image."""
        return self.image_size // self.token_pixels

    @property
    def num_patches(self) -> int:
        """Image tokens of all views."""
        return len(self.views) * self.grid**2

    @property
    def num_visual(self) -> int:
        """Visual tokens of an unpruned call."""
        return self.num_patches + self.num_groups

    @property
    def token_spacing(self) -> float:
        """Metres between neighbouring tokens if those of one view and the point groups were spread evenly over the
        largest face of the workspace: what a camera sees of it is a surface of about this size. Further views show the
        same surface again."""
        edges = sorted(upper - lower for lower, upper in zip(self.workspace_lower, self.workspace_upper))
        return math.sqrt(edges[1] * edges[2] / (self.grid**2 + self.num_groups))

    def check_backbone(self) -> None:
        """Raises ValueError where heads do not divide the width evenly, or evidence is read in layers there are not."""
        if self.width % self.heads or (self.width // self.heads) % 2:
            raise ValueError(f"width {self.width} must be an even multiple of heads {self.heads}")
        if not all(0 <= layer < self.depth for layer in self.evidence_layers) or not self.evidence_layers:
            raise ValueError(f"evidence_layers {self.evidence_layers} must name layers of a depth of {self.depth}")

    def check_inputs(self) -> None:
        """Raises ValueError unless ``views`` names one or more views, and ``proprio`` features of ``proprio_dim``."""
        if not self.views or len(set(self.views)) != len(self.views):
            raise ValueError(f"views must name one or more, each once, got {self.views}")
        check_features(self.proprio, self.proprio_dim)

    def check_workspace(self) -> None:
        """Raises ValueError unless ``workspace_lower`` lies below ``workspace_upper`` on each of three axes."""
        lower, upper = self.workspace_lower, self.workspace_upper
        if not (len(lower) == len(upper) == 3 and all(a < b for a, b in zip(lower, upper))):
            raise ValueError(f"workspace_lower {lower} must lie below workspace_upper {upper} on each of three axes")

    def save(self, path: Path) -> None:
        """Write the configuration as JSON."""
        as_dataclass: Any = self
        write_json(path, dataclasses.asdict(as_dataclass))

    @classmethod
    def load(cls: type[Config], path: Path) -> Config:
        """Read a configuration; raises ValueError as ``read_config`` does, and without ``step_s``."""
        entries = read_json(path)
        config = read_config(cls, path, entries)
        if "step_s" not in entries:  # actions at another pace than they were learned at look like a bad policy
            raise ValueError(f"{path} has no entry step_s: add the seconds between two actions")
        return config
