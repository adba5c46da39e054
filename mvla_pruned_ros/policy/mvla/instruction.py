"""Instructions as token ids, by a vocabulary that lies beside the weights (Hugging Face ``tokenizers``)."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers

from ..engine.tokenizer_file import read_tokenizer

PAD, UNKNOWN = "[PAD]", "[UNK]"
PAD_ID = 0
SPLITTER = pre_tokenizers.Whitespace()  # makes words of punctuation marks, too


class InstructionTokenizer:
    """Words to ids, padded to a fixed length.

    A word the policy never saw in training is refused: acting on it would be a guess.
    """

    def __init__(self, tokenizer: Tokenizer, length: int) -> None:
        self._tokenizer, self.length = tokenizer, length

    @classmethod
    def from_instructions(cls, instructions: Iterable[str], length: int) -> InstructionTokenizer:
        """Vocabulary of the words in ``instructions``, lower case, in alphabetical order."""
        words = sorted({word for text in instructions for word in words_of(text.lower())})
        vocabulary = {word: i for i, word in enumerate([PAD, UNKNOWN, *words])}
        tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token=UNKNOWN))
        tokenizer.normalizer = normalizers.Lowercase()
        tokenizer.pre_tokenizer = SPLITTER
        return cls(tokenizer, length)

    @classmethod
    def load(cls, path: Path, length: int) -> InstructionTokenizer:
        """Raises ValueError naming the file when it is missing or not of this form."""
        tokenizer = read_tokenizer(path, "a policy folder needs its tokenizer")
        if tokenizer.token_to_id(PAD) != PAD_ID or tokenizer.token_to_id(UNKNOWN) is None:
            raise ValueError(f"{path} has no {PAD} as its first or no {UNKNOWN}: it is the tokenizer of something else")
        return cls(tokenizer, length)

    def save(self, path: Path) -> None:
        self._tokenizer.save(str(path))

    @property
    def size(self) -> int:
        return self._tokenizer.get_vocab_size()

    @property
    def words(self) -> list[str]:
        """Known words, sorted."""
        return sorted(set(self._tokenizer.get_vocab()) - {PAD, UNKNOWN})

    def encode(self, text: str) -> np.ndarray:
        """(length,) int64 ids.

        Raises:
            ValueError: empty, too long, or with words the policy does not know. Punctuation is no word.
        """
        encoding = self._tokenizer.encode(text)
        unknown = [text[a:b] for token, (a, b) in zip(encoding.tokens, encoding.offsets) if token == UNKNOWN]
        unknown = list(filter(_is_word, unknown))
        if unknown:
            raise ValueError(
                f"instruction {text!r} has words this policy was not trained on: {', '.join(unknown)}; "
                f"it knows: {', '.join(self.words)}"
            )
        ids = [number for number, token in zip(encoding.ids, encoding.tokens) if token != UNKNOWN]
        if not 0 < len(ids) <= self.length:
            raise ValueError(f"instruction {text!r} has {len(ids)} words, this policy takes 1 to {self.length}")
        return np.array(ids + [PAD_ID] * (self.length - len(ids)), np.int64)


def words_of(text: str) -> list[str]:
    """Words of an instruction, as they are counted. Punctuation is none."""
    return [word for word, _ in SPLITTER.pre_tokenize_str(text) if _is_word(word)]


def _is_word(text: str) -> bool:
    """Whether it is more than punctuation."""
    return any(character.isalnum() for character in text)
