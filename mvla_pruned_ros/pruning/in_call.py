"""Rules that choose inside the policy call: on encoded tokens, or after layers of the backbone.

Our own pruner decides before anything is encoded and needs none of this; published methods do.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

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

    How many tokens stay must not depend on values of tensors: reading one makes the host wait for the device.

    Attributes:
        recordable: whether a call with it may be recorded and replayed with an equal rule: it is hashable, holds no
            tensor and keeps nothing of the call.
        memory: None: a token that leaves is gone. Otherwise it is only not computed any more, and later layers attend
            to the keys and values that it had in ``memory.before``, a call with as many tokens.
    """

    recordable = False
    memory: CallMemory | None = None

    def inputs(self) -> tuple[np.ndarray, ...]:
        """What it brings from the host; the policy copies that to the device."""
        return ()

    def with_inputs(self, *inputs: Tensor) -> InCallRule:
        """The same with ``inputs`` on the device."""
        return self

    def report(self) -> Tensor | None:
        """(K,) values of the call that it wants to know on the host; None: none."""
        return None

    def receive(self, values: np.ndarray) -> None:
        """Those values, which came with the actions in one copy."""

    def layers(self, depth: int) -> tuple[int, ...]:
        """After how many of ``depth`` layers the rule is asked, ascending; 0 alone: before the backbone."""
        return (0,)

    def choose(self, view: CallView) -> Tensor | None:
        """Indices of the visual tokens that stay, ascending, int64, none that has left; None: nothing leaves here."""
        raise NotImplementedError


def true_at(mask: Tensor, count: int) -> Tensor:
    """(count,) ascending indices of what is true in (N,) ``mask``, of which there are so many.

    ``nonzero`` counts them first, for which the host waits for the device.
    """
    import torch

    return torch.nonzero_static(mask, size=count)[:, 0]


@dataclass(frozen=True)
class FixedChoice(InCallRule):
    """Choices that have been made already. choices: layer -> what stays there."""

    choices: Mapping[int, Tensor]
    memory: CallMemory | None = None

    def layers(self, depth: int) -> tuple[int, ...]:
        return tuple(self.choices)

    def choose(self, view: CallView) -> Tensor:
        return self.choices[view.layer]
