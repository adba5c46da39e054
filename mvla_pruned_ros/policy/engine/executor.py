"""One call of a policy model, whatever the model: tokenize, rule before the backbone, backbone, decode, evidence."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ...pruning.in_call import InCallRule
from ...pruning.types import Evidence
from .accelerator import accelerator
from .backbone import Prefix
from .lean_layer import make_lean
from .network import PolicyNetwork
from .packed_linear import pack_linears
from .recorded_call import RecordedCall
from .stage_timer import StageTimer


@dataclass(frozen=True)
class CallResult:
    """What one call gave.

    Attributes:
        chunk: (chunk, A) float32, normalised. evidence: of the visual tokens that were left.
        chosen: (M,) indices, of the visual tokens encoded, that a rule left; None where it let none go.
        computed: visual tokens that the backbone ran on, mean over its layers; None where no rule chose inside it.
    """

    chunk: np.ndarray
    evidence: Evidence
    chosen: np.ndarray | None
    computed: float | None


class Executor:
    """Runs calls of a model. Not safe to use from two threads at once.

    Attributes:
        accelerator: the seam to the device. recorded: records calls and replays them; None where that is off.
    """

    def __init__(
        self, model: PolicyNetwork, device: torch.device, seed: int = 0, recompute: bool = False,
        record: bool | None = None,
    ) -> None:  # fmt: skip
        """
        Args:
            model: on ``device``, in eval mode, there to stay; its layers become lean ones.
            seed: of the noise that diffusion starts from.
            recompute: encode and run everything again at each denoising step, as upstream does; slower, with the same
                result within float tolerance. It is there to be compared with.
            record: record what follows the tokenizers, on a GPU as CUDA graphs, one per number of tokens and rule;
                None where that pays, on a GPU. The tokenizers run as they come: how many of the tokens that are kept
                show the image differs from call to call.
        """
        self._model, self._seed, self._recompute = model, seed, recompute
        self.accelerator = accelerator(device)
        record = device.type == "cuda" if record is None else record
        make_lean(model.backbone)
        pack_linears(model)
        self.recorded = RecordedCall(self._replayed, self.accelerator) if record and not recompute else None
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
        """
        shape, upload = self._model.noise_shape, self.accelerator.upload
        with timer.stage("tokenize"):
            prefix = self._model.tokenize(batch)

        def retokenize() -> Prefix:
            with timer.stage("tokenize"):
                return self._model.tokenize(batch)

        with timer.stage("backbone"):
            noise = () if shape is None else (upload(torch.randn((1, *shape), generator=self._noise)),)
            brought = () if rule is None else tuple(upload(torch.from_numpy(x)) for x in rule.inputs())
            tensors = prefix.tokens, prefix.positions, prefix.visual, *noise, *brought
            if self.recorded is not None and (rule is None or rule.recordable):
                outputs = self.recorded((rule, prefix.num_image if rule else 0), tensors)
            else:
                outputs = self._call(rule, prefix.num_image, tensors, timer, retokenize)
        with timer.stage("head"):
            # One copy: here, and nowhere before, the host waits for the device.
            together = self.accelerator.download(torch.cat([x.float().flatten() for x in outputs]))
            actions, norm, attention, *of_rule = np.split(together, np.cumsum([x.numel() for x in outputs])[:-1])
            chosen: np.ndarray | None = None
            computed: float | None = None
            if rule is not None:
                passes, report, *left = of_rule
                rule.receive(report)
                computed, chosen = float(passes[0]), left[0].astype(np.int64) if left else None
            chunk = actions.reshape(tuple(outputs[0].shape))
            return CallResult(chunk, Evidence(norm, attention), chosen, computed if computed else None)

    def _replayed(self, fixed: tuple[InCallRule | None, int], *tensors: Tensor) -> tuple[Tensor, ...]:
        return self._call(*fixed, tensors, StageTimer(), None)

    def _call(
        self, rule: InCallRule | None, num_image: int, tensors: Sequence[Tensor], timer: StageTimer,
        retokenize: Callable[[], Prefix] | None,
    ) -> tuple[Tensor, ...]:  # fmt: skip
        """All that follows the tokenizers, without a value that is read on the host.

        Args:
            num_image: image tokens that were encoded. tensors: of the prefix, noise where the model takes some, what
                the rule brings. retokenize: encodes the tokens anew before a pass where all is recomputed.

        Returns:
            (chunk, A) actions, (M,) norm, (M,) attention; with a rule also (1,) tokens computed, 0 where it chose
            before the backbone, (K,) what it reports, and where it let tokens go (M,) those that are left.
        """
        model, (tokens, positions, visual, *rest) = self._model, tensors
        noise = rest.pop(0) if model.noise_shape is not None else None
        prefix = Prefix(tokens, positions, visual, num_image)
        before: Tensor | None = None
        inside = None if rule is None else rule.with_inputs(*rest)
        if inside is not None and inside.layers(len(model.backbone.layers)) == (0,):
            with timer.stage("select"):
                before, inside = inside.choose(model.call_view(prefix)), None
                prefix = prefix if before is None else prefix.keep_visual(before)[0]

        def again() -> Prefix:
            assert retokenize is not None
            encoded = retokenize()
            return encoded if before is None else encoded.keep_visual(before)[0]

        chunk, out = model.decode(
            prefix, evidence=True, noise=noise, rule=inside, reuse_prefix=not self._recompute,
            retokenize=again if self._recompute else None,
        )  # fmt: skip
        assert out.norm is not None and out.attention is not None
        outputs = chunk[0].float(), out.norm[0].float(), out.attention[0].float()
        if rule is None:
            return outputs
        computed, report = outputs[1].new_full((1,), out.computed or 0.0), rule.report()
        chosen = before if inside is None else out.chosen
        reported = outputs[1].new_empty(0) if report is None else report
        return (*outputs, computed, reported, *(() if chosen is None else (chosen,)))
