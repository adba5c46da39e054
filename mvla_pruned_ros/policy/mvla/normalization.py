"""Between physical actions and the range the network predicts, from quantiles of the training data.

As MLA does it: 2 (x - q01) / (q99 - q01 + 1e-8) - 1, clipped to [-1, 1], and back.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ...configuration.files import write_json


@dataclass(frozen=True)
class ActionNormalization:
    """q01, q99: (A,) float32 quantiles of the training actions, in the units of the action."""

    q01: np.ndarray
    q99: np.ndarray

    def __post_init__(self) -> None:
        if self.q01.shape != self.q99.shape or self.q01.ndim != 1:
            raise ValueError(f"q01 and q99 must be vectors of one length, got {self.q01.shape}, {self.q99.shape}")
        if not (np.isfinite(self.q01).all() and np.isfinite(self.q99).all() and (self.q01 <= self.q99).all()):
            raise ValueError(f"action quantiles must be finite and ordered, got {self.q01} and {self.q99}")

    @classmethod
    def of(cls, actions: np.ndarray) -> ActionNormalization:
        """From (..., A) actions."""
        q01, q99 = np.quantile(actions.reshape(-1, actions.shape[-1]), [0.01, 0.99], axis=0).astype(np.float32)
        return cls(q01, q99)

    def normalize(self, actions: np.ndarray) -> np.ndarray:
        """(..., A) physical -> [-1, 1]."""
        return np.clip(2 * (actions - self.q01) / (self.q99 - self.q01 + 1e-8) - 1, -1, 1).astype(np.float32)

    def denormalize(self, actions: np.ndarray) -> np.ndarray:
        """(..., A), clipped to [-1, 1] -> physical."""
        return (0.5 * (np.clip(actions, -1, 1) + 1) * (self.q99 - self.q01) + self.q01).astype(np.float32)

    def save(self, path: Path) -> None:
        entry = {"q01": self.q01.tolist(), "q99": self.q99.tolist()}
        write_json(path, {"action": entry})

    @classmethod
    def load(cls, path: Path) -> ActionNormalization:
        """Raises ValueError naming the file when it is missing or not of this form."""
        try:
            entry = json.loads(path.read_text())["action"]
            return cls(np.array(entry["q01"], np.float32), np.array(entry["q99"], np.float32))
        except FileNotFoundError:
            raise ValueError(f"{path} is missing: a policy folder needs its normalisation statistics") from None
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(f"{path} is not a normalisation file: {error!r}") from error
