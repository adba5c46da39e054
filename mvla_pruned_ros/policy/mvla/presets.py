"""Configurations by name."""

from __future__ import annotations

from ...configuration.reader import check_names
from .config import MVLAConfig

PRESETS: dict[str, MVLAConfig] = {
    # 144 image + 64 point tokens: what two CPU cores can train.
    "small": MVLAConfig(),
    # 196 image + 64 point tokens, wide enough that the backbone and not fixed cost decides how long a call takes.
    "medium": MVLAConfig(image_size=224, width=192, heads=6, mlp_width=512),
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
