"""Denoising diffusion over action chunks, as MLA uses it: cosine schedule, noise prediction, DDIM with eta 0."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor


def cosine_alphas(steps: int) -> Tensor:
    """Cumulative alphas of the ``squaredcos_cap_v2`` schedule (Nichol and Dhariwal 2021) of MLA, on the CPU."""

    def bar(t: float) -> float:
        return math.cos((t + 0.008) / 1.008 * math.pi / 2) ** 2

    betas = [min(1 - bar((i + 1) / steps) / bar(i / steps), 0.999) for i in range(steps)]
    return torch.cumprod(1 - torch.tensor(betas, dtype=torch.float64, device="cpu"), 0).float()


def ddim_timesteps(train_steps: int, steps: int) -> list[int]:
    """Descending timesteps at the smallest even stride that gives ``steps`` of them (100, 8 -> 91, 78, ... 13, 0).

    Raises:
        ValueError: no stride gives that many.
    """
    for stride in range(1, train_steps + 1):
        times = range(0, train_steps, stride)
        if len(times) == steps:
            return list(times)[::-1]
    raise ValueError(f"no even stride gives {steps} of {train_steps} diffusion steps")


def timestep_features(timestep: Tensor, size: int = 256) -> Tensor:
    """(B,) -> (B, size) float32: cosines, then sines, at wavelengths from 2 pi to 20000 pi."""
    half = size // 2
    frequencies = torch.exp(-math.log(10000) / half * torch.arange(half, device=timestep.device))
    angle = timestep[:, None].float() * frequencies
    return torch.cat([angle.cos(), angle.sin()], -1)


def ddim(
    predict_noise: Callable[[Tensor, int], Tensor], noise: Tensor, alphas: Tensor, timesteps: Sequence[int]
) -> Tensor:
    """Denoise, eta 0, without clipping.

    Args:
        predict_noise: of a (B, C, A) sample and the index of its timestep. noise: (B, C, A) float32 to start from.
        alphas: (train steps,) cumulative, float32. timesteps: descending, the last one goes to the clean sample.
    """
    sample = noise
    for step, (t, after) in enumerate(zip(timesteps, [*timesteps[1:], -1])):
        noise_hat = predict_noise(sample, step)
        alpha, alpha_after = alphas[t], alphas[after] if after >= 0 else torch.ones(())
        clean = (sample - (1 - alpha).sqrt() * noise_hat) / alpha.sqrt()
        sample = alpha_after.sqrt() * clean + (1 - alpha_after).sqrt() * noise_hat
    return sample
