"""One call of a policy model, whatever the model: tokenize, rule before the backbone, backbone, decode, evidence."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ...pruning.in_call import InCallRule
from ...pruning.types import Evidence
from .backbone import Prefix
from .cuda_graph import StaticCall
from .device import to_device
from .lean_layer import make_lean
from .network import PolicyNetwork
from .packed_linear import pack_linears
from .stage_timer import StageTimer


@dataclass(frozen=True)
class CallResult:
    """What one call gave.

    Attributes:
        chunk: (chunk, A) float32, normalised. evidence: of the visual tokens that were left.
        chosen: (M,) indices, of the visual tokens encoded, that a rule left; None without a rule.
    """

    chunk: np.ndarray
    evidence: Evidence
    chosen: np.ndarray | None


class Executor:
    """Runs calls of a model. Not safe to use from two threads at once."""

    def __init__(
        self, model: PolicyNetwork, device: torch.device, seed: int = 0, recompute: bool = False,
        static: bool | None = None,
    ) -> None:  # fmt: skip
        """
        Args:
            model: on ``device``, in eval mode, there to stay; its layers become lean ones.
            seed: of the noise that diffusion starts from.
            recompute: encode and run everything again at each denoising step, as upstream does; slower, with the same
                result within float tolerance. It is there to be compared with.
            static: run what follows the tokenizers through static buffers, on a GPU as CUDA graphs, one per number of
                tokens; None where that pays, on a GPU. A call with a rule inside it runs as it comes.
        """
        self._model, self._device, self._seed, self._recompute = model, device, seed, recompute
        static = device.type == "cuda" if static is None else static
        make_lean(model.backbone)
        if model.noise_shape is not None:
            pack_linears(model)
        self.static = StaticCall(self._decode) if static and not recompute else None
        self._noise = torch.Generator()
        self.reset()

    def reset(self) -> None:
        """Draw the same noise as at the start from here on."""
        self._noise.manual_seed(self._seed)

    @torch.inference_mode()
    def run(self, batch: Any, rule: InCallRule | None, timer: StageTimer) -> CallResult:
        """One call; times the stages tokenize, select (a rule before the backbone), backbone and head.

        Args:
            batch: of one sample, as the model's ``tokenize`` takes it. rule: chooses inside the call.

        Raises:
            ValueError: the rule cuts after the first layer whose attention is read.
        """
        model, chosen, shape = self._model, None, self._model.noise_shape
        if rule is not None and rule.layer > min(model.evidence_layers):
            raise ValueError(
                f"the rule cuts after layer {rule.layer}, but attention is read from layer "
                f"{min(model.evidence_layers)} on (evidence_layers {model.evidence_layers})"
            )
        with timer.stage("tokenize"):
            prefix = model.tokenize(batch)
        if rule is not None and rule.layer == 0:
            with timer.stage("select"):
                chosen, rule = rule.choose(model.call_view(prefix)), None
                prefix = prefix.keep_visual(chosen)[0]

        def retokenize() -> Prefix:
            with timer.stage("tokenize"):
                again = model.tokenize(batch)
            return again if chosen is None else again.keep_visual(chosen)[0]

        with timer.stage("backbone"):
            noise = () if shape is None else (self._draw(shape),)
            arguments = prefix.tokens, prefix.positions, prefix.visual, *noise
            if self.static is not None and rule is None:
                outputs = self.static(*arguments)
            else:
                again = retokenize if self._recompute else None
                outputs = self._decode(*arguments, rule=rule, num_image=prefix.num_image, retokenize=again)
        with timer.stage("head"):
            chunk, *values = outputs
            if chosen is not None:
                values.append(chosen)
            # One copy: here, and nowhere before, the host waits for the device.
            together = torch.cat([chunk.flatten(), *(v.float() for v in values)]).cpu().numpy()
            actions, norm, attention, *left = np.split(together, np.cumsum([chunk.numel(), *map(len, values)])[:-1])
            return CallResult(
                actions.reshape(chunk.shape), Evidence(norm, attention), left[0].astype(np.int64) if left else None
            )

    def _draw(self, shape: tuple[int, ...]) -> Tensor:
        return to_device(torch.randn((1, *shape), generator=self._noise), self._device)

    def _decode(
        self, tokens: Tensor, positions: Tensor, visual: Tensor, noise: Tensor | None = None, *, num_image: int = 0,
        rule: InCallRule | None = None, retokenize: Callable[[], Prefix] | None = None,
    ) -> tuple[Tensor, ...]:  # fmt: skip
        """float32 (chunk, A) actions, (M,) norm, (M,) attention; (M,) int64 that the rule left, if there is one."""
        chunk, out = self._model.decode(
            Prefix(tokens, positions, visual, num_image),
            evidence=True, noise=noise, rule=rule, reuse_prefix=not self._recompute, retokenize=retokenize,
        )  # fmt: skip
        assert out.norm is not None and out.attention is not None
        result = chunk[0].float(), out.norm[0].float(), out.attention[0].float()
        return result if out.chosen is None else (*result, out.chosen)
