"""MLA's normalisation of proprio and actions, from the quantiles of its training data.

After `predict_action_diff` in `models/mla/model_mla.py` of upstream (commit 072f5d8).
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ...configuration.files import write_json
from ...configuration.reader import read_json

FILE = "normalization.json"
GRIPPERS = slice(6, None, 7)  # of every 7 values of an action: x, y, z, Euler x, y, z, gripper


@dataclass(frozen=True)
class Quantiles:
    """q01, q99: (A,) float32, in the units of the values. mask: (A,) bool, which values are normalised at all."""

    q01: np.ndarray
    q99: np.ndarray
    mask: np.ndarray

    def __post_init__(self) -> None:
        if not (self.q01.shape == self.q99.shape == self.mask.shape and self.q01.ndim == 1):
            raise ValueError(
                f"q01, q99 and mask must be vectors of one length, got {self.q01.shape}, {self.q99.shape}, "
                f"{self.mask.shape}"
            )
        if not (np.isfinite(self.q01).all() and np.isfinite(self.q99).all() and (self.q01 <= self.q99).all()):
            raise ValueError(f"quantiles must be finite and ordered, got {self.q01} and {self.q99}")

    @classmethod
    def of_entry(cls, entry: dict[str, Any]) -> Quantiles:
        """From JSON; without a mask everything is normalised, as upstream does it."""
        q01, q99 = np.array(entry["q01"], np.float32), np.array(entry["q99"], np.float32)
        mask = np.array(entry.get("mask", [True] * len(q01)))
        if mask.dtype != bool:
            raise ValueError(f"mask must hold true and false, got {entry['mask']}")
        return cls(q01, q99, mask)

    def entry(self) -> dict[str, Any]:
        """As JSON."""
        return {"q01": self.q01.tolist(), "q99": self.q99.tolist(), "mask": self.mask.tolist()}

    def normalize(self, values: np.ndarray) -> np.ndarray:
        """(..., A) physical -> [-1, 1]."""
        scaled = 2 * (values - self.q01) / (self.q99 - self.q01 + 1e-8) - 1
        return np.clip(np.where(self.mask, scaled, values), -1, 1).astype(np.float32)

    def denormalize(self, values: np.ndarray) -> np.ndarray:
        """(..., A) in [-1, 1] -> physical."""
        scaled = 0.5 * (values + 1) * (self.q99 - self.q01) + self.q01
        return np.where(self.mask, scaled, values).astype(np.float32)


@dataclass(frozen=True)
class MLANormalization:
    """Of what goes in and what comes out."""

    proprio: Quantiles
    action: Quantiles

    @classmethod
    def identity(cls, proprio_dim: int, action_dim: int) -> MLANormalization:
        """Quantiles -1 and 1: values pass as they are."""

        def of(size: int) -> Quantiles:
            return Quantiles(np.full(size, -1, np.float32), np.ones(size, np.float32), np.ones(size, bool))

        return cls(of(proprio_dim), of(action_dim))

    def actions(self, chunk: np.ndarray) -> np.ndarray:
        """(chunk, A) as predicted -> physical: clipped, the gripper opened from 0.5 on and closed below."""
        chunk = np.clip(chunk, -1, 1)
        chunk[:, GRIPPERS] = chunk[:, GRIPPERS] >= 0.5
        return self.action.denormalize(chunk)

    def check(self, proprio_dim: int, action_dim: int) -> None:
        """Raises ValueError when the statistics are of other sizes."""
        for name, one, size in (("proprio", self.proprio, proprio_dim), ("action", self.action, action_dim)):
            if len(one.q01) != size:
                raise ValueError(f"is for {len(one.q01)} {name} values, config.json says {size}")

    def save(self, path: Path) -> None:
        write_json(path, {"proprio": self.proprio.entry(), "action": self.action.entry()})

    @classmethod
    def of_entries(cls, entries: dict[str, Any]) -> MLANormalization:
        return cls(Quantiles.of_entry(entries["proprio"]), Quantiles.of_entry(entries["action"]))

    @classmethod
    def load(cls, path: Path, dataset: str | None = None) -> MLANormalization:
        """From ``normalization.json``, or from upstream's ``dataset_statistics.json`` the entry of a data set.

        Raises:
            ValueError: missing, not of this form, or no such data set; the message names the file.
        """
        try:
            entries = json.loads(path.read_text())
            return cls.of_entries(entries if dataset is None else entries[dataset])
        except FileNotFoundError:
            raise ValueError(f"{path} is missing: a policy needs the statistics it was trained with") from None
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise ValueError(f"{path} is not a normalisation file: {error!r}") from error


def only_dataset(path: Path, wanted: str | None) -> str:
    """Which data set of upstream's ``dataset_statistics.json`` to use.

    Raises:
        ValueError: the file is missing or malformed, there is no such data set, or several and none was named.
    """
    if not path.is_file():
        raise ValueError(f"{path} is missing: upstream writes it beside its config.json")
    names = sorted(read_json(path))
    if wanted is None and len(names) != 1:
        raise ValueError(f"{path} has statistics of {', '.join(names) or 'nothing'}: choose one with --dataset")
    if wanted is not None and wanted not in names:
        raise ValueError(f"{path} has no statistics of {wanted!r}, but of {', '.join(names)}")
    return wanted or names[0]
