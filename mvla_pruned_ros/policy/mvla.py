"""The shipped MVLA policy: weights, tokenizer and normalisation behind the policy interface."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from ..pruning.types import Evidence, Selection
from ..types import Observation
from .checkpoint import load_policy_parts
from .inputs import PolicyInput, prepare
from .instruction import InstructionTokenizer
from .interface import PolicyOutput, StageTimer
from .model import Batch, MVLAModel, Prefix
from .normalization import ActionNormalization


def resolve_device(name: str) -> torch.device:
    """``cpu``, ``cuda``, ``cuda:N``, or ``auto`` for cuda where there is one.

    Raises:
        ValueError: no such device here; the message says what to ask for instead.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError:
        raise ValueError(f"device {name!r} is not a device: use cpu, cuda, cuda:N or auto") from None
    if device.type not in ("cpu", "cuda"):
        raise ValueError(f"device {name!r} is not supported: use cpu, cuda, cuda:N or auto")
    if device.type == "cuda" and (not torch.cuda.is_available() or (device.index or 0) >= torch.cuda.device_count()):
        raise ValueError(
            f"device {name!r} was asked for, but torch {torch.__version__} sees {torch.cuda.device_count()} CUDA "
            "devices here: install a CUDA build of torch and a driver, or set device to cpu or auto"
        )
    return device


class MVLAPolicy:
    """An MVLA policy ready to act. Not safe to call from two threads at once."""

    def __init__(
        self,
        model: MVLAModel,
        tokenizer: InstructionTokenizer,
        normalization: ActionNormalization,
        device: str = "cpu",
        seed: int = 0,
        recompute: bool = False,
    ) -> None:
        """
        Args:
            device: see ``resolve_device``. seed: of the ddim head's noise.
            recompute: encode and run everything again at each denoising step, as upstream does; slower, with the same
                result within float tolerance. It is there to be compared with.
        """
        self.device = resolve_device(device)
        self.model = model.to(self.device).eval()
        self.config = model.config
        self.tokenizer, self.normalization = tokenizer, normalization
        self.chunk_size, self.action_dim = self.config.chunk_size, self.config.action_dim
        self.step_s = self.config.step_s
        self.device_name = torch.cuda.get_device_name(self.device) if self.device.type == "cuda" else "cpu"
        self._recompute = recompute
        self._seed = seed
        self._noise = torch.Generator()
        self.reset()

    @classmethod
    def load(cls, folder: Path | str, device: str = "cpu") -> MVLAPolicy:
        """Read a policy folder; raises CheckpointError or ValueError with the remedy."""
        resolve_device(device)
        return cls(*load_policy_parts(Path(folder)), device=device)

    def reset(self) -> None:
        self._noise.manual_seed(self._seed)

    def check_instruction(self, instruction: str) -> None:
        self.tokenizer.encode(instruction)

    def prepare(self, observation: Observation) -> PolicyInput:
        return prepare(observation, self.config)

    def memory_mb(self) -> float:
        return torch.cuda.memory_allocated(self.device) / 2**20 if self.device.type == "cuda" else 0.0

    @torch.inference_mode()
    def act(self, prepared: PolicyInput, selection: Selection, instruction: str, timer: StageTimer) -> PolicyOutput:
        """See ``Policy.act``. A full selection runs the very same way as no pruning."""
        rule, chosen = selection.rule, None
        if rule is not None and rule.layer > min(self.config.evidence_layers):
            raise ValueError(
                f"the rule cuts after layer {rule.layer}, but attention is read from layer "
                f"{min(self.config.evidence_layers)} on (evidence_layers {self.config.evidence_layers})"
            )
        with timer.stage("tokenize"):
            batch = self._batch(prepared, selection, instruction)
            prefix = self.model.tokenize(batch)
        if rule is not None and rule.layer == 0:
            with timer.stage("select"):
                chosen, rule = rule.choose(self.model.call_view(prefix)), None
                prefix = prefix.keep_visual(chosen)[0]

        def retokenize() -> Prefix:
            again = self.model.tokenize(batch)
            return again if chosen is None else again.keep_visual(chosen)[0]

        with timer.stage("backbone"):
            if self.config.head == "l1":
                chunk, out = self.model.decode_l1(prefix, evidence=True, rule=rule)
            else:
                shape = (1, self.chunk_size, self.action_dim)
                noise = torch.randn(shape, generator=self._noise).to(self.device)
                chunk, out = self.model.decode_ddim(
                    prefix,
                    evidence=True,
                    noise=noise,
                    rule=rule,
                    reuse_prefix=not self._recompute,
                    retokenize=retokenize if self._recompute else None,
                )
        with timer.stage("head"):
            actions = self.normalization.denormalize(chunk[0].float().cpu().numpy())
            assert out.norm is not None and out.attention is not None
            evidence = Evidence(out.norm[0].cpu().numpy(), out.attention[0].float().cpu().numpy())
            chosen = out.chosen if chosen is None else chosen
            if chosen is not None:
                selection = selection.after_rule(chosen.cpu().numpy())
        return PolicyOutput(actions, evidence, selection)

    def _batch(self, prepared: PolicyInput, selection: Selection, instruction: str) -> Batch:
        def tensor(x: np.ndarray) -> torch.Tensor:
            return torch.from_numpy(np.ascontiguousarray(x))[None].to(self.device)

        full = selection.is_full
        return Batch(
            image=tensor(prepared.image),
            centres=tensor(prepared.centres),
            groups=tensor(prepared.groups),
            proprio=tensor(prepared.proprio),
            instruction=tensor(self.tokenizer.encode(instruction)),
            image_kept=None if full else tensor(selection.image_kept),
            points_kept=None if full else tensor(selection.points_kept),
        )
