"""Instructions to token ids."""

from __future__ import annotations

from pathlib import Path

import pytest

from mvla_pruned_ros.policy.mvla.instruction import InstructionTokenizer

TEXTS = ["Open the faucet", "push the puck to the goal"]


@pytest.fixture
def tokenizer() -> InstructionTokenizer:
    return InstructionTokenizer.from_instructions(TEXTS, length=8)


def test_vocabulary_is_the_words_in_alphabetical_order(tokenizer: InstructionTokenizer) -> None:
    assert tokenizer.words == ["faucet", "goal", "open", "puck", "push", "the", "to"]
    assert tokenizer.size == 9  # with padding and unknown


def test_ids_are_padded_to_the_fixed_length(tokenizer: InstructionTokenizer) -> None:
    # 0 is padding, 1 unknown, then the words.
    assert tokenizer.encode("open the faucet").tolist() == [4, 7, 2, 0, 0, 0, 0, 0]
    assert tokenizer.encode("push the puck to the goal").tolist() == [6, 7, 5, 8, 7, 3, 0, 0]


def test_case_and_spaces_do_not_matter(tokenizer: InstructionTokenizer) -> None:
    assert tokenizer.encode("  OPEN \t the\nFaucet ").tolist() == tokenizer.encode("open the faucet").tolist()


def test_vocabulary_does_not_depend_on_the_order_of_instructions(tokenizer: InstructionTokenizer) -> None:
    other = InstructionTokenizer.from_instructions(reversed(TEXTS), length=8)
    assert other.encode(TEXTS[1]).tolist() == tokenizer.encode(TEXTS[1]).tolist()


def test_punctuation_is_no_word(tokenizer: InstructionTokenizer) -> None:
    plain = tokenizer.encode("push the puck to the goal").tolist()
    assert tokenizer.encode("Push the puck, to the goal!").tolist() == plain
    assert tokenizer.encode("push the puck to the goal.").tolist() == plain
    marked = InstructionTokenizer.from_instructions(["Open the faucet.", "Push the puck to the goal!"], length=8)
    assert marked.words == tokenizer.words
    with pytest.raises(ValueError, match="has 0 words"):
        tokenizer.encode("...!")


def test_marks_that_a_policy_was_trained_with_keep_their_numbers() -> None:
    """Vocabularies written by older versions may hold them."""
    from tokenizers import Tokenizer, models, pre_tokenizers

    old = Tokenizer(models.WordLevel({"[PAD]": 0, "[UNK]": 1, ".": 2, "push": 3}, unk_token="[UNK]"))
    old.pre_tokenizer = pre_tokenizers.Whitespace()
    assert InstructionTokenizer(old, 4).encode("push . !").tolist() == [3, 2, 0, 0]


@pytest.mark.parametrize("text, unknown", [("open the drawer", "drawer"), ("juggle the red puck", "juggle, red")])
def test_unknown_words_are_refused_by_name_with_the_known_ones(
    tokenizer: InstructionTokenizer, text: str, unknown: str
) -> None:
    with pytest.raises(ValueError, match=f"not trained on: {unknown}; it knows: faucet, goal"):
        tokenizer.encode(text)


@pytest.mark.parametrize("text", ["", "   ", "\n"])
def test_empty_instruction_is_refused(tokenizer: InstructionTokenizer, text: str) -> None:
    with pytest.raises(ValueError, match="has 0 words, this policy takes 1 to 8"):
        tokenizer.encode(text)


def test_too_long_instruction_is_refused_with_its_length(tokenizer: InstructionTokenizer) -> None:
    assert (tokenizer.encode("the " * 8) == 7).all()
    with pytest.raises(ValueError, match="has 9 words, this policy takes 1 to 8"):
        tokenizer.encode("the " * 9)


def test_saved_tokenizer_is_read_back(tokenizer: InstructionTokenizer, tmp_path: Path) -> None:
    tokenizer.save(tmp_path / "tokenizer.json")
    again = InstructionTokenizer.load(tmp_path / "tokenizer.json", 8)
    assert again.encode(TEXTS[1]).tolist() == tokenizer.encode(TEXTS[1]).tolist()
    assert again.words == tokenizer.words
