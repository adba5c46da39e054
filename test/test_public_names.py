"""What others may import: the lists are held here, so that a name that goes is a change somebody decided."""

from __future__ import annotations

import ast
import importlib
import subprocess
import sys
from pathlib import Path

import pytest

import mvla_pruned_ros

PUBLIC = {
    "mvla_pruned_ros": """ActionChunk ArmState CameraModel Evidence NotReadyError Observation Policy PolicyOutput
        PolicyRuntime Pruner Selection TokenLayout TriStageConfig View load_policy make_pruner""",
    "mvla_pruned_ros.policy": """CheckpointError Inference NotReadyError Policy PolicyOutput PolicyRuntime PreparedInput
        check_policy load_policy""",
    "mvla_pruned_ros.pruning": """CallView Evidence InCallRule METHODS Pruner PruningStats Reason Selection SemanticSet
        TokenLayout TriStageConfig make_pruner""",
    "mvla_pruned_ros.messages": """ConversionError Encoder camera_model cloud_planes compressed_to_rgb depth_to_metres
        image_to_rgb stamp_ns""",
}


@pytest.mark.parametrize("package", sorted(PUBLIC))
def test_public_names_are_there_and_no_others(package: str) -> None:
    module = importlib.import_module(package)
    assert module.__all__ == sorted(PUBLIC[package].split())
    for name in module.__all__:
        assert getattr(module, name).__doc__ or name.isupper(), f"{name} says nothing of itself"
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = module.nothing


@pytest.mark.parametrize("package", sorted(PUBLIC))
def test_type_checkers_see_the_same_names(package: str) -> None:
    """They do not run ``__getattr__`` and read the imports below TYPE_CHECKING instead."""
    file = importlib.import_module(package).__file__
    assert file is not None
    tree = ast.parse(Path(file).read_text())
    [block] = [n for n in tree.body if isinstance(n, ast.If)]
    imported = {n.module: tuple(a.name for a in n.names) for n in block.body if isinstance(n, ast.ImportFrom)}
    assert imported == importlib.import_module(package)._HOMES


def test_importing_the_package_costs_nothing() -> None:
    code = (
        f"import sys\nimport {', '.join(PUBLIC)}\n"
        "print(sorted({'numpy', 'torch', 'PIL', 'transformers', 'rclpy'} & set(sys.modules)))"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"


def test_same_name_is_the_same_thing() -> None:
    from mvla_pruned_ros import policy, pruning

    assert mvla_pruned_ros.load_policy is policy.load_policy
    assert mvla_pruned_ros.Selection is pruning.Selection
