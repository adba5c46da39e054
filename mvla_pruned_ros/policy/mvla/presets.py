"""Configurations by name."""

from __future__ import annotations

from ...configuration.reader import check_names
from .config import MVLAConfig

PRESETS: dict[str, MVLAConfig] = {
    # 144 image + 64 point tokens: what two CPU cores can train.
    "small": MVLAConfig(),
    # 196 image + 64 point tokens, wide enough that the backbone and not fixed cost decides how long a call takes.
    "medium": MVLAConfig(image_size=224, width=192, heads=6, mlp_width=512),
    # LIBERO's Panda: 392 patches of two views and 128 point tokens, six degrees of freedom, long instructions.
    "panda": MVLAConfig(
        instruction_length=20, views=("image", "image_1"), proprio=("ee_position", "ee_rotation_6d", "gripper"),
        proprio_dim=10, image_size=168, patch_size=12, workspace_lower=(0.15, -0.45, 0.004),
        workspace_upper=(1.0, 0.45, 0.5), num_groups=128, point_colour=True, grounding=True, width=256, depth=6,
        heads=4, mlp_width=704, step_s=0.05, action_dim=7, evidence_layers=(1, 3, 5),
    ),
    # The token counts of MLA at a width that one GPU can train.
    "base": MVLAConfig(
        image_size=256, num_groups=256, group_size=32, width=384, depth=12, heads=6, mlp_width=1024, head="ddim",
        evidence_layers=(3, 6, 9),
    ),
}  # fmt: skip


def preset(name: str) -> MVLAConfig:
    """The configuration called ``name``.

    Raises:
        ValueError: there is none; the message names the nearest, or lists those there are.
    """
    check_names([name], PRESETS, "preset")
    return PRESETS[name]
