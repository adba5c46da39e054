"""What the configurations of all architectures have to fulfil."""

from __future__ import annotations

from collections.abc import Sequence


def check_backbone(width: int, heads: int, depth: int, evidence_layers: Sequence[int]) -> None:
    """Raises ValueError where heads do not divide the width evenly, or evidence is read in layers there are not."""
    if width % heads or (width // heads) % 2:
        raise ValueError(f"width {width} must be an even multiple of heads {heads}")
    if not all(0 <= layer < depth for layer in evidence_layers) or not evidence_layers:
        raise ValueError(f"evidence_layers {evidence_layers} must name layers of a depth of {depth}")


def check_workspace(lower: Sequence[float], upper: Sequence[float]) -> None:
    """Raises ValueError unless ``lower`` lies below ``upper`` on each of three axes."""
    if not (len(lower) == len(upper) == 3 and all(a < b for a, b in zip(lower, upper))):
        raise ValueError(f"workspace_lower {lower} must lie below workspace_upper {upper} on each of three axes")
