"""All numbers of an analysis, as they are written to ``analysis.json`` and drawn on the page."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from ..evaluation.grouping import grouped
from ..pruning.tri_stage.config import TriStageConfig
from ..pruning.tri_stage.modality import modality_share
from ..pruning.tri_stage.semantic import semantic_sets
from ..pruning.types import SemanticSet
from .over_time import cosine, segments, similarity
from .recording import Call
from .salience import PAPER_SHARES, in_multiples_of_mean, share_of_sums, sums_by_set, unique_shares

# Shares of 2D, by name: what is shared, and the words for it. The first is stage I's alpha.
SHARES = {
    "norm_mean": "L1 norm of features, mean per token",
    "norm_sum": "L1 norm of features, sum",
    "attention_mean": "attention, mean per token",
    "attention_sum": "attention, sum",
}
LAGS = (1, 2, 4, 8, 16, 32)  # calls apart


def sets_of(call: Call, config: TriStageConfig) -> np.ndarray:
    """(N,) ``SemanticSet`` of a call's tokens, by the attention it showed itself and not by a prediction."""
    lengths = config.lengths(call.layout.spacing)
    return semantic_sets(call.layout, call.evidence.attention, lengths, config.object_threshold)


def analyse(calls: Sequence[Call], config: TriStageConfig) -> dict[str, Any]:
    """Everything that is measured on a recording, ready for JSON; what is not defined is None.

    Args:
        calls: at least one, unpruned, in order. config: radii and thresholds of the pruner.

    Raises:
        ValueError: no call at all.
    """
    if not calls:
        raise ValueError("the recording holds no policy call: every frame was incomplete or had too few points")
    episodes = grouped(calls, lambda call: call.episode).values()
    rows = [row for episode in episodes for row in _rows(episode, calls[0].stamp_ns, config)]
    first = calls[0].layout
    return plain({
        "calls": len(calls),
        "episodes": 1 + calls[-1].episode - calls[0].episode,
        "instructions": list(dict.fromkeys(call.instruction for call in calls)),
        "tokens": {"image": first.num_image, "points": first.num_points},
        "parameters": {
            "robot_radius_m": config.lengths(first.spacing).robot,
            **{name: getattr(config, name) for name in ("object_threshold", "smoothing", "segment_threshold")},
        },
        "image_share": {name: _summary([row[name] for row in rows]) for name in SHARES},
        "attention_on_visual_tokens": _summary([row["attention_visual"] for row in rows]),
        "sets": _sets(calls, config),
        "unique_share_of_3d_attention": _summary([row["unique_attention"] for row in rows]),
        "unique_share_of_3d_tokens": _summary([row["unique_tokens"] for row in rows]),
        "segments": _segments(rows),
        "similarity": _similarity(calls, config),
        "paper": {task: {"image": image, "points": points} for task, (image, points) in PAPER_SHARES.items()},
        "rows": rows,
    })  # fmt: skip


def plain(value: Any) -> Any:
    """The value in types of JSON: numpy's scalars as Python's, NaN as None."""
    if isinstance(value, dict):
        return {key: plain(entry) for key, entry in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(entry) for entry in value]
    if isinstance(value, np.generic):
        value = value.item()
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _rows(episode: list[Call], start_ns: int, config: TriStageConfig) -> list[dict[str, Any]]:
    """One row per call of an episode."""
    layouts, attentions = [c.layout for c in episode], [c.evidence.attention for c in episode]
    error, begins = segments(layouts, attentions, config)
    cosines, variations = (np.concatenate([[np.nan], x]) for x in similarity(layouts, attentions, 1, config))
    rows = []
    for i, call in enumerate(episode):
        norm, attention, n2 = call.evidence.norm, call.evidence.attention, call.layout.num_image
        unique_attention, unique_tokens = unique_shares(attention, call.layout)
        rows.append({
            "episode": call.episode,
            "time_s": (call.stamp_ns - start_ns) / 1e9,
            "norm_mean": modality_share(norm, n2),
            "norm_sum": share_of_sums(norm, n2),
            "attention_mean": modality_share(attention, n2),
            "attention_sum": share_of_sums(attention, n2),
            "attention_visual": attention.sum(),
            "unique_attention": unique_attention,
            "unique_tokens": unique_tokens,
            "segment_begins": begins[i],
            "prediction_error": error[i],
            "cosine_to_previous": cosines[i],
            "variation_to_previous": variations[i],
        })  # fmt: skip
    return rows


def _summary(values: list[float]) -> dict[str, float]:
    known = [float(v) for v in values if not math.isnan(v)] or [math.nan]
    return {"mean": float(np.mean(known)), "std": float(np.std(known)), "min": min(known), "max": max(known)}


def _sets(calls: Sequence[Call], config: TriStageConfig) -> dict[str, Any]:
    """Tokens per call, and the mean token's norm and attention, of each set and modality over all calls.

    In multiples of the mean token of the same call, so that calls of different magnitude count alike.
    """
    counts = np.zeros((3, 2), np.int64)
    sums = {"norm": np.zeros((3, 2)), "attention": np.zeros((3, 2))}
    for call in calls:
        sets, n2 = sets_of(call, config), call.layout.num_image
        for name, total in sums.items():
            one, count = sums_by_set(in_multiples_of_mean(getattr(call.evidence, name)), sets, n2)
            total += one
        counts += count
    with np.errstate(invalid="ignore", divide="ignore"):  # a set without a token of a modality: NaN
        means = {name: total / counts for name, total in sums.items()}
    return {
        part.name.lower(): {
            "tokens": dict(zip(("image", "points"), counts[part] / len(calls))),
            **{name: dict(zip(("image", "points"), mean[part])) for name, mean in means.items()},
        }
        for part in SemanticSet
    }


def _segments(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    starts = [i for i, row in enumerate(rows) if row["segment_begins"]]
    out = []
    for start, end in zip(starts, [*starts[1:], len(rows)]):
        part = rows[start:end]
        out.append({
            "episode": part[0]["episode"],
            "first_call": start,
            "calls": len(part),
            "start_s": part[0]["time_s"],
            "end_s": part[-1]["time_s"],
            "image_share": {name: _summary([row[name] for row in part])["mean"] for name in SHARES},
        })  # fmt: skip
    return out


def _similarity(calls: Sequence[Call], config: TriStageConfig) -> dict[str, Any]:
    """Mean likeness of calls some calls apart; that to uniform attention says what a meaningless pattern would get."""
    by_lag: dict[int, tuple[list[float], list[float]]] = {lag: ([], []) for lag in LAGS}
    for episode in grouped(calls, lambda call: call.episode).values():
        layouts, attentions = [c.layout for c in episode], [c.evidence.attention for c in episode]
        for lag, (cosines, variations) in by_lag.items():
            one, other = similarity(layouts, attentions, lag, config)
            cosines.extend(one)
            variations.extend(other)
    uniform = [cosine(c.evidence.attention, np.ones_like(c.evidence.attention)) for c in calls]
    return {
        "lags": [
            {"calls_apart": lag, "pairs": len(c), "cosine": _summary(c)["mean"], "variation": _summary(v)["mean"]}
            for lag, (c, v) in by_lag.items()
            if c
        ],
        "cosine_to_uniform": _summary(uniform)["mean"],
    }
