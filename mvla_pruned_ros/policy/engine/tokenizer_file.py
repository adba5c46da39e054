"""Tokenizers of Hugging Face's ``tokenizers`` on disk."""

from __future__ import annotations

from pathlib import Path

from tokenizers import Tokenizer


def read_tokenizer(path: Path, needed: str) -> Tokenizer:
    """The tokenizer of a file.

    Args:
        needed: what it is needed for, said where it is missing.

    Raises:
        ValueError: missing, or no such file; names it.
    """
    if not path.is_file():
        raise ValueError(f"{path} is missing: {needed}")
    try:
        return Tokenizer.from_file(str(path))
    except Exception as error:  # tokenizers raises bare Exception
        raise ValueError(f"{path} is not a tokenizer file: {error}") from error
