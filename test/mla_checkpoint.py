"""A small checkpoint in upstream's layout, for tests: names and shapes as upstream's own modules save them.

The names were recorded from upstream (commit 072f5d8) with an image width of 64, a Llama of width 64 with 4 layers and
a vocabulary of 128, and the 3D tower at its full size, which upstream fixes. Weights are random, of their name.
"""

from __future__ import annotations

import json
import zlib
from collections import OrderedDict
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch

DATA = Path(__file__).parent / "data" / "mla_parity.npz"
SIZES = {
    "image_width": 64,
    "width": 64,
    "depth": 4,
    "heads": 4,
    "mlp_width": 96,
    "vocabulary": 128,
    "blank_token": 127,
    "evidence_layers": [1, 2, 3],
}
QUANTILES = {"q01": [-0.2, -0.2, -0.2, -3.0, -1.5, -3.0, 0.0], "q99": [0.2, 0.3, 0.4, 3.0, 1.5, 3.0, 1.0]}
MASK = [True] * 6 + [False]


@cache
def recorded() -> dict[str, np.ndarray]:
    """Inputs and outputs of upstream, see ``test_mla_parity``."""
    with np.load(DATA) as data:
        return dict(data)


def random_values(name: str, shape: tuple[int, ...]) -> np.ndarray:
    """float32 weights of a scale that keeps features of one size."""
    x = np.random.default_rng(zlib.crc32(name.encode())).random(shape, dtype=np.float32) * 2 - 1
    if name.endswith("running_var"):
        return 1 + 0.5 * x
    is_norm = "norm" in name.rsplit(".", 2)[-2] or (len(shape) == 1 and name.endswith("weight"))
    if is_norm or name.endswith("running_mean"):
        return 1 + 0.2 * x if name.endswith("weight") else 0.1 * x
    if len(shape) == 1:
        return 0.1 * x
    if "embed_tokens" in name or "lm_head" in name:
        return x
    return x * np.float32(np.sqrt(3.0 / np.prod(shape[1:])))


def upstream_state() -> dict[str, dict[str, torch.Tensor]]:
    """Tensors by module and name; the very weights that upstream was run with."""
    state: dict[str, dict[str, torch.Tensor]] = {}
    checksum = 0
    for key, shape in json.loads(str(recorded()["shapes"])).items():
        module, name = key.split(".", 1)
        if key.endswith("num_batches_tracked"):
            value = torch.zeros((), dtype=torch.int64)
        else:
            array = np.ascontiguousarray(random_values(key, tuple(shape)), np.float32)
            checksum = zlib.crc32(array.tobytes(), checksum)
            value = torch.from_numpy(array)
        state.setdefault(module, OrderedDict())[name] = value
    assert checksum == recorded()["checksum"], "this numpy draws other numbers than the one that recorded the file"
    return state


def tokenizer_entries() -> dict[str, Any]:
    """A tokenizer.json of single words, with Llama's empty word last."""
    words = ["<unk>", "<s>", "</s>", "In", ":", "What", "action", "should", "the", "robot", "take", "to", "?", "Out"]
    words += ["close", "box", "push", "puck"]
    vocabulary = {word: i for i, word in enumerate(words)} | {"\u2581": 127}
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [],
        "normalizer": None,
        "pre_tokenizer": {"type": "Whitespace"},
        "post_processor": None,
        "decoder": None,
        "model": {"type": "WordLevel", "vocab": vocabulary, "unk_token": "<unk>"},
    }


def write_run(folder: Path, state: dict[str, dict[str, Any]] | None = None, **config: Any) -> Path:
    """An upstream run folder, plus ``sizes.json`` for ``mvla convert --sizes``. config: entries of its config.json."""
    (folder / "checkpoints").mkdir(parents=True)
    torch.save({"model": upstream_state() if state is None else state}, folder / "checkpoints" / "step-1.pt")
    entries = {
        "action_dim": 7,
        "future_action_window_size": 0,
        "use_diff": True,
        "use_pointcloud": True,
        "use_tactile": False,
    }
    (folder / "config.json").write_text(json.dumps(entries | config))
    quantiles = {"action": QUANTILES | {"mask": MASK}, "proprio": QUANTILES | {"mask": MASK}, "num_transitions": 9}
    (folder / "dataset_statistics.json").write_text(json.dumps({"rlbench": quantiles}))
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer_entries()))
    (folder / "sizes.json").write_text(json.dumps(SIZES))
    return folder
