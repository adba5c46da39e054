"""MLA configurations by name."""

from __future__ import annotations

from .config import MLAConfig

MLA_PRESETS: dict[str, MLAConfig] = {
    # Upstream's sizes: Llama-2-7B, 256 + 256 tokens, one action.
    "mla-7b": MLAConfig(),
    # 256 + 256 tokens as well, small enough for two CPU cores.
    "mla-small": MLAConfig(
        image_width=192, point_width=24, point_token_width=192, vocabulary=1024, blank_token=1023, width=256, depth=8,
        heads=4, mlp_width=704, evidence_layers=(2, 4, 6),
    ),
}  # fmt: skip
