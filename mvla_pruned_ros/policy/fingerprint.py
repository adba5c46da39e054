"""Which policy a figure belongs to, told by its files and not by its name."""

from __future__ import annotations

import hashlib
from pathlib import Path

# All that decides what a policy answers. Not pruning.json: rows and episodes name the pruning settings themselves.
WEIGHTS = "model.safetensors"
FILES = ("config.json", WEIGHTS, "normalization.json", "tokenizer.json")


def policy_fingerprint(folder: Path | str) -> str:
    """First 16 hexadecimal digits of the SHA-256 over the files of a policy folder.

    Raises:
        ValueError: a file is missing.
    """
    total, folder = hashlib.sha256(), Path(folder)
    shards = sorted(path.name for path in folder.glob("model-*.safetensors"))
    for name in FILES:
        for part in shards if name == WEIGHTS and shards else [name]:
            path = folder / part
            if not path.is_file():
                raise ValueError(f"no policy folder at {folder}: {part} is missing")
            # The digest of each file, so that bytes cannot wander from one file to the next unseen.
            total.update(_digest(path))
    return total.hexdigest()[:16]


def _digest(path: Path) -> bytes:
    """Of a file that may be larger than memory."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(2**24):
            digest.update(block)
    return digest.digest()
