"""MLA's prompt: an instruction in the sentence that the backbone was trained with, as Llama token ids."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from tokenizers import Tokenizer, models, pre_tokenizers

from ..engine.tokenizer_file import read_tokenizer
from .config import MLAConfig

FILE = "tokenizer.json"
BLANK = "\u2581"  # Llama's empty word: the space in front of a word, alone
PROMPT = "In: What action should the robot take to {}?\nOut:"


class PromptTokenizer:
    """Instructions to token ids, by the ``tokenizer.json`` of the backbone. Any words will do; few are understood."""

    def __init__(self, tokenizer: Tokenizer, config: MLAConfig) -> None:
        """
        Raises:
            ValueError: the tokenizer is of another backbone.
        """
        size = tokenizer.get_vocab_size()
        largest = max(tokenizer.get_vocab().values(), default=-1)
        if largest >= config.vocabulary:
            raise ValueError(
                f"the tokenizer has {size} entries, ids up to {largest}, the backbone embeds {config.vocabulary}"
            )
        found = tokenizer.token_to_id(BLANK)
        if found != config.blank_token:
            raise ValueError(
                f"the tokenizer has the empty word {BLANK!r} at {found}, Llama's is at {config.blank_token}: "
                "it is the tokenizer of another backbone"
            )
        self._tokenizer, self._config = tokenizer, config

    @classmethod
    def load(cls, path: Path, config: MLAConfig) -> PromptTokenizer:
        """Raises ValueError naming the file when it is missing or not the backbone's."""
        tokenizer = read_tokenizer(path, f"the prompt needs the tokenizer of the backbone (Llama-2's {FILE})")
        try:
            return cls(tokenizer, config)
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from error

    @classmethod
    def stand_in(cls, config: MLAConfig) -> PromptTokenizer:
        """One token per word and mark, about as many as Llama's tokenizer gives: enough to measure time."""
        tokenizer = Tokenizer(models.WordLevel({"<unk>": 0, BLANK: config.blank_token}, unk_token="<unk>"))
        tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
        return cls(tokenizer, config)

    def encode(self, instruction: str) -> np.ndarray:
        """(L,) int64 ids of the whole prompt, without the start token.

        Raises:
            ValueError: empty or too long.
        """
        if not instruction.strip():
            raise ValueError("the instruction is empty: say what the robot is to do, such as 'close the box'")
        ids = self._tokenizer.encode(PROMPT.format(instruction.strip().lower()), add_special_tokens=False).ids
        if len(ids) > self._config.max_prompt_tokens:
            raise ValueError(
                f"the prompt of instruction {instruction[:60]!r}... has {len(ids)} tokens, this policy takes "
                f"{self._config.max_prompt_tokens} (max_prompt_tokens)"
            )
        return np.array(ids, np.int64)
