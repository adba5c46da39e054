"""Rules that choose inside the policy call: on encoded tokens, or after layers of the backbone.

Our own pruner decides before anything is encoded and needs none of this; published methods do.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class CallView:
    """What the policy shows to a rule in the middle of one call (batch 1).

    N visual tokens were encoded, image tokens first. Whatever has one entry per visual token has it for all N, also for
    those that left in an earlier layer, so that an index means the same token in every layer.

    Attributes:
        embeddings: (N, width) visual tokens as they enter the backbone. num_image: how many are image tokens.
        text: (L, width) instruction tokens as they enter the backbone.
        attention: (Q, N) head-mean attention of the Q action tokens to the visual tokens, in the layer before the
            cut, 0 for tokens that were dropped before it; None for a rule that cuts before the backbone.
        text_scores: computes (N,) the first layer's query of the text times key of the visual tokens, without
            rotary positions and softmax, mean over heads and text tokens.
        layer, depth: layers of the backbone that have run, and all of them.
        present: (N,) bool, tokens that have not left; None: all.
    """

    embeddings: Tensor
    num_image: int
    text: Tensor
    attention: Tensor | None
    text_scores: Callable[[], Tensor]
    layer: int = 0
    depth: int = 1
    present: Tensor | None = None


@dataclass
class CallMemory:
    """Keys and values that a policy keeps from call to call for a rule; only the policy looks inside.

    Attributes:
        before: of the call before; None: there are none. after: of this call, put there by the policy.
    """

    before: Any = None
    after: Any = None


class InCallRule:
    """A choice that is made in the call, in one layer or in several.

    Attributes:
        memory: None: a token that leaves is gone. Otherwise it is only not computed any more, and later layers attend
            to the keys and values that it had in ``memory.before``, a call with as many tokens.
    """

    memory: CallMemory | None = None

    def layers(self, depth: int) -> tuple[int, ...]:
        """After how many of ``depth`` layers the rule is asked, ascending; 0 alone: before the backbone."""
        return (0,)

    def choose(self, view: CallView) -> Tensor | None:
        """Indices of the visual tokens that stay, ascending, int64, none that has left; None: nothing leaves here."""
        raise NotImplementedError


@dataclass(frozen=True)
class FixedChoice(InCallRule):
    """Choices that have been made already. choices: layer -> what stays there."""

    choices: Mapping[int, Tensor]
    memory: CallMemory | None = None

    def layers(self, depth: int) -> tuple[int, ...]:
        return tuple(self.choices)

    def choose(self, view: CallView) -> Tensor:
        return self.choices[view.layer]
