"""Names and shapes of the tensors in an upstream MLA checkpoint, and how ours are made of them.

Upstream (commit 072f5d8) saves ``{"model": {module: {name: tensor}}}``; here a tensor is called ``module.name``.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from ..engine.backbone import llama_backbone
from .config import MLAConfig

# There, and used by nobody at inference.
UNUSED = re.compile(
    r"vision_tower_2d\.(class_embedding|split_embedding|global_attention\..+)"
    r"|vision_tower_3d\.(cls_token|pos_embed|norm\..+)"
    r"|vision_tower_3d\..+\.num_batches_tracked"
    r"|llm_backbone\.llm\.lm_head\.weight"
    r"|llm_backbone\.llm\..*contrastive.+"
    r"|llm_backbone\.llm\.model\.layers\.\d+\.self_attn\.rotary_emb\.inv_freq"
    r"|generation_manager\..+"
)
TACTILE = "tactile_embedder."
BATCH_NORM_EPS = 1e-5
BATCH_NORM = ("weight", "bias", "running_mean", "running_var")


@dataclass(frozen=True)
class Source:
    """What one of our tensors is made of.

    Attributes:
        keys: of upstream's tensors. shapes: theirs. build: from those tensors to ours.
    """

    keys: tuple[str, ...]
    shapes: tuple[tuple[int, ...], ...]
    build: Callable[..., Tensor]


def _fold_weight(scale: Tensor, variance: Tensor, weight: Tensor) -> Tensor:
    factor = scale.double() / (variance.double() + BATCH_NORM_EPS).sqrt()
    return weight.double().flatten(1) * factor[:, None]


def _fold_bias(scale: Tensor, variance: Tensor, shift: Tensor, mean: Tensor, *bias: Tensor) -> Tensor:
    factor = scale.double() / (variance.double() + BATCH_NORM_EPS).sqrt()
    return (sum((b.double() for b in bias), -mean.double())) * factor + shift.double()


def sources(config: MLAConfig) -> dict[str, Source]:
    """Every tensor of ``MLAModel`` with what it is made of."""
    return dict(_sources(config))


def _sources(config: MLAConfig) -> Iterator[tuple[str, Source]]:
    w, v, p, t = config.width, config.image_width, config.point_width, config.point_token_width
    yield from _image_tower("image_tower", "vision_tower_2d", v, config.patch_size)
    yield from _mlp("image_projector", "projector_2d.mlp", ("0", "2"), v, w, w)
    yield from _folded("point_tower.point", "vision_tower_3d.patch_embed.EncP.raw_point_embed.net", 3, p, (1,), False)
    for stage, blocks in enumerate((2, 1)):
        width = p << (stage + 1)
        for block in range(blocks):
            ours = f"point_tower.stages.{stage}.blocks.{block}"
            theirs = f"vision_tower_3d.patch_embed.EncP.LGA_list.{stage}.linear2.{block}"
            yield from _folded(f"{ours}.down", f"{theirs}.net1", width, width // 2, (1, 1), True)
            yield from _folded(f"{ours}.up", f"{theirs}.net2", width // 2, width, (1, 1), True)
    yield from _linear("point_tower.project", "vision_tower_3d.proj", 4 * p, t)
    yield from _mlp("point_projector", "projector_3d.projector", ("0", "2"), t, w, w)
    yield from _mlp("proprio_embedder", "proprio_embedder.mlp", ("fc1", "fc2"), config.proprio_dim, w, w)
    yield from _mlp("action_embedder", "x_embedder.mlp", ("fc1", "fc2"), config.action_dim, w, w)
    yield from _mlp("time_embedder.mlp", "t_embedder.mlp", ("0", "2"), 256, w, w)
    yield _same("noise_head.scale", "final_layer.norm_final.weight", w)
    yield from _mlp("noise_head.mlp", "final_layer.mlp", ("fc1", "fc2"), w, w, config.action_dim)
    yield from _backbone("llm_backbone.llm.model", config)


def _same(ours: str, theirs: str, *shape: int) -> tuple[str, Source]:
    return ours, Source((theirs,), (shape,), lambda x: x)


def _linear(ours: str, theirs: str, size: int, out: int, bias: bool = True) -> Iterator[tuple[str, Source]]:
    yield _same(f"{ours}.weight", f"{theirs}.weight", out, size)
    if bias:
        yield _same(f"{ours}.bias", f"{theirs}.bias", out)


def _mlp(
    ours: str, theirs: str, names: tuple[str, str], size: int, hidden: int, out: int
) -> Iterator[tuple[str, Source]]:
    """Two linear maps, which are 0 and 2 of our sequence."""
    yield from _linear(f"{ours}.0", f"{theirs}.{names[0]}", size, hidden)
    yield from _linear(f"{ours}.2", f"{theirs}.{names[1]}", hidden, out)


def _folded(
    ours: str, theirs: str, size: int, out: int, kernel: tuple[int, ...], bias: bool
) -> Iterator[tuple[str, Source]]:
    """A convolution of kernel 1 (``theirs.0``) and the batch normalisation after it (``theirs.1``)."""
    scale, shift, mean, variance = (f"{theirs}.1.{name}" for name in BATCH_NORM)
    yield (
        f"{ours}.weight",
        Source((scale, variance, f"{theirs}.0.weight"), ((out,), (out,), (out, size, *kernel)), _fold_weight),
    )
    keys = (scale, variance, shift, mean, *([f"{theirs}.0.bias"] if bias else []))
    yield f"{ours}.bias", Source(keys, ((out,),) * len(keys), _fold_bias)


def _image_tower(ours: str, theirs: str, width: int, patch: int) -> Iterator[tuple[str, Source]]:
    yield (
        f"{ours}.patch.weight",
        Source((f"{theirs}.patch_embedding.weight",), ((width, 3, patch, patch),), lambda x: x.flatten(1)),
    )
    for name, part, out in (("query", "q", width), ("key_value", "kv", 2 * width)):
        for kind in ("weight", "bias"):
            yield _same(f"{ours}.{name}_norm.{kind}", f"{theirs}.local_attention.{part}.0.{kind}", width)
        yield from _linear(f"{ours}.{name}", f"{theirs}.local_attention.{part}.1", width, out, bias=False)
    yield from _linear(f"{ours}.project", f"{theirs}.local_attention.proj", width, width)


def _backbone(theirs: str, config: MLAConfig) -> Iterator[tuple[str, Source]]:
    with torch.device("meta"):
        backbone = llama_backbone(config.vocabulary, config.width, config.mlp_width, config.depth, config.heads)[0]
    for name, weight in backbone.state_dict().items():
        yield _same(f"backbone.{name}", f"{theirs}.{name}", *weight.shape)
    yield _same("final_norm.weight", f"{theirs}.norm.weight", config.width)


def problems(tensors: dict[str, Tensor], wanted: dict[str, Source]) -> list[str]:
    """Every tensor that is missing, unknown, of another shape or not finite, by name; empty when all is well."""
    shapes = {key: shape for source in wanted.values() for key, shape in zip(source.keys, source.shapes)}
    found = [f"missing {key}" for key in sorted(shapes.keys() - tensors.keys())]
    rest = sorted(tensors.keys() - shapes.keys())
    found += [f"unknown {key}" for key in rest if not UNUSED.fullmatch(key)]
    for key in sorted(shapes.keys() & tensors.keys()):
        shape = tuple(tensors[key].shape)
        if shape != shapes[key]:
            found.append(f"{key} has shape {shape}, needs {shapes[key]}")
        elif not tensors[key].is_floating_point():
            found.append(f"{key} holds {tensors[key].dtype}, needs floating point")
        elif not torch.isfinite(tensors[key]).all():
            found.append(f"{key} has values that are not finite")
    return found
