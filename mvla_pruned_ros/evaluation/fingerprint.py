"""Which policy a figure belongs to, told by its files and not by its name."""

from __future__ import annotations

import hashlib
from pathlib import Path

# All that decides what a policy answers. Not pruning.json: rows and episodes name the pruning settings themselves.
FILES = ("config.json", "model.safetensors", "normalization.json", "tokenizer.json")


def policy_fingerprint(folder: Path | str) -> str:
    """First 16 hexadecimal digits of the SHA-256 over the files of a policy folder.

    Raises:
        ValueError: a file is missing.
    """
    total = hashlib.sha256()
    for name in FILES:
        path = Path(folder) / name
        if not path.is_file():
            raise ValueError(f"no policy folder at {folder}: {name} is missing")
        # The digest of each file, so that bytes cannot wander from one file to the next unseen.
        total.update(hashlib.sha256(path.read_bytes()).digest())
    return total.hexdigest()[:16]
