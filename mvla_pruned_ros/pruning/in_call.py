"""Rules that choose inside the policy call: on encoded tokens, or after a layer of the backbone.

Our own pruner decides before anything is encoded and needs none of this; published methods do.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class CallView:
    """What the policy shows to a rule in the middle of one call (batch 1). N visual tokens, image tokens first.

    Attributes:
        embeddings: (N, width) visual tokens as they enter the backbone. num_image: how many are image tokens.
        text: (L, width) instruction tokens as they enter the backbone.
        attention: (Q, N) head-mean attention of the Q action tokens to the visual tokens, in the layer before the
            cut; None for a rule that cuts before the backbone.
        text_scores: computes (N,) the first layer's query of the text times key of the visual tokens, without
            rotary positions and softmax, mean over heads and text tokens.
    """

    embeddings: Tensor
    num_image: int
    text: Tensor
    attention: Tensor | None
    text_scores: Callable[[], Tensor]


class InCallRule(Protocol):
    """A choice that is made in the call.

    Attributes:
        layer: backbone layers that run before the cut, 0 for a cut before the backbone.
    """

    @property
    def layer(self) -> int: ...

    def choose(self, view: CallView) -> Tensor:
        """Indices of the visual tokens that stay, ascending, int64."""


@dataclass(frozen=True)
class FixedChoice:
    """A choice that has been made already."""

    layer: int
    chosen: Tensor

    def choose(self, view: CallView) -> Tensor:
        return self.chosen
