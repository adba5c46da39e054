"""Own Muon against torch's."""

import pytest
import torch

from mvla_pruned_ros.training.muon import Muon, orthogonalise


@pytest.mark.parametrize("shape", [(24, 24), (16, 40), (40, 16)])
def test_orthogonalised_matrix_has_singular_values_near_one_and_the_same_singular_vectors(
    shape: tuple[int, int],
) -> None:
    matrix = torch.randn(shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    u, _, vt = torch.linalg.svd(matrix, full_matrices=False)
    inner = u.T @ orthogonalise(matrix) @ vt.T  # diagonal when the singular vectors are the same
    assert torch.allclose(inner, torch.diag(inner.diagonal()), atol=1e-9)
    assert (inner.diagonal() > 0.3).all() and (inner.diagonal() < 1.3).all()


def test_steps_are_those_of_torch_but_for_bf16() -> None:
    weights = torch.randn(24, 48, generator=torch.Generator().manual_seed(0))
    ours, theirs = torch.nn.Parameter(weights.clone()), torch.nn.Parameter(weights.clone())
    own = Muon([ours], lr=0.02, weight_decay=0.1)
    reference = torch.optim.Muon([theirs], lr=0.02, weight_decay=0.1, adjust_lr_fn="match_rms_adamw")
    generator = torch.Generator().manual_seed(1)
    for _ in range(5):
        ours.grad = torch.randn(24, 48, generator=generator)
        theirs.grad = ours.grad.clone()
        own.step()
        reference.step()
    moved = (theirs - weights).norm()
    assert moved > 0.1
    assert (ours - theirs).norm() < 0.02 * moved  # bf16 keeps two to three digits


def test_a_vector_is_refused() -> None:
    with pytest.raises(ValueError, match=r"matrices.*\(3,\)"):
        Muon([torch.nn.Parameter(torch.zeros(3))], lr=0.1, weight_decay=0.0)
