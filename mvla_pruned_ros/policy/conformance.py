"""Whether an object is a policy: asked of those that come from elsewhere, before a robot moves by them."""

from __future__ import annotations

from typing import Any, cast

import numpy as np

from ..control.action_spaces import ActionForm
from ..pruning.types import Reason, Selection, TokenLayout
from .base import Policy, PolicyOutput
from .engine.stage_timer import StageTimer
from .proprio import FEATURES

NUMBERS = ("chunk_size", "action_dim", "step_s", "token_bucket")
METHODS = ("reset", "check_instruction", "example", "prepare", "act", "seal", "memory_mb")
OTHERS = ("device", "device_name", "late_shapes", "views", "proprio")
INHERIT = "see mvla_pruned_ros/policy/base.py, and inherit from Policy to have defaults"


def check_policy(policy: Any, name: str) -> Policy:
    """The object, if it is a policy: it has what is asked for, and acts on its own example, full and pruned.

    Args:
        name: for messages.

    Raises:
        ValueError: says what is missing, or which answer does not fit.
    """
    try:
        _check(policy)
    except PolicyInterfaceError as error:
        raise ValueError(f"policy {name}: {error}") from error
    except Exception as error:
        raise ValueError(f"policy {name}: it cannot act on its own example: {type(error).__name__}: {error}") from error
    return cast(Policy, policy)


def _check(policy: Any) -> None:
    missing = [member for member in (*NUMBERS, *METHODS, *OTHERS) if not hasattr(policy, member)]
    if missing:
        raise PolicyInterfaceError(f"a {type(policy).__name__} lacks {', '.join(missing)}; {INHERIT}")
    for member in METHODS:
        if not callable(getattr(policy, member)):
            raise PolicyInterfaceError(f"{member} must be a method")
    for member in NUMBERS:
        value = getattr(policy, member)
        whole = isinstance(value, (int, np.integer)) and not isinstance(value, bool)
        if not (whole or (member == "step_s" and isinstance(value, float))) or not 0 < value < float("inf"):
            raise PolicyInterfaceError(f"{member} is {value!r}, must be a positive number")
    try:
        ActionForm.of(policy)
    except ValueError as error:
        raise PolicyInterfaceError(str(error)) from error
    for member, known in (("views", None), ("proprio", FEATURES)):
        names = getattr(policy, member, ())
        if not isinstance(names, tuple) or not all(isinstance(n, str) and (known is None or n in known) for n in names):
            told = f"names among {', '.join(known)}" if known else "names"
            raise PolicyInterfaceError(f"{member} is {names!r}, must be a tuple of {told}")
    policy.reset()
    observation = policy.example()
    policy.check_instruction(observation.instruction)
    layout = policy.prepare(observation).layout
    _check_layout(layout)
    if layout.views != policy.views:
        raise PolicyInterfaceError(f"layout.views is {layout.views}, and the policy says that it takes {policy.views}")
    for selection in (Selection.full(layout), _half(layout)):
        prepared = policy.prepare(observation)
        output = policy.act(prepared, selection, observation.instruction, StageTimer(policy.device))
        _check_output(output, selection, policy)
    policy.reset()


class PolicyInterfaceError(ValueError):
    """An answer that does not fit the interface."""


def _half(layout: TokenLayout) -> Selection:
    """Every second visual token."""
    reason = np.full(layout.num_visual, Reason.DROPPED, np.int8)
    reason[::2] = Reason.CHOSEN
    return Selection(reason, layout.num_image)


def _check_layout(layout: TokenLayout) -> None:
    views = len(layout.views)
    if len(layout.grids) != views:
        raise PolicyInterfaceError(f"layout.grids has {len(layout.grids)} entries for {views} views")
    shapes = {
        "image_positions": (sum(rows * cols for rows, cols in layout.grids), 3),
        "point_positions": (layout.num_points, 3),
        "point_patches": (views, layout.num_points),
        "camera_poses": (views, 4, 4),
        "end_effector": (3,),
    }
    for field, shape in shapes.items():
        found = np.shape(getattr(layout, field))
        if found != shape:
            raise PolicyInterfaceError(f"layout.{field} is {found}, must be {shape}")
    if not np.isfinite(layout.point_positions).all():
        raise PolicyInterfaceError("layout.point_positions has values that are not finite")
    if not 0 < layout.spacing < float("inf"):
        raise PolicyInterfaceError(
            f"layout.spacing is {layout.spacing!r}, must be the metres between neighbouring tokens, a positive number"
        )


def _check_output(output: PolicyOutput, selection: Selection, policy: Policy) -> None:
    actions, shape = np.asarray(output.actions), (policy.chunk_size, policy.action_dim)
    if actions.shape != shape or not np.isfinite(actions).all():
        raise PolicyInterfaceError(f"actions of {actions.shape}, must be {shape} finite numbers")
    if len(output.evidence.attention) != selection.num_kept or output.selection.num_kept != selection.num_kept:
        raise PolicyInterfaceError(
            f"{selection.num_kept} visual tokens were kept, but evidence is of "
            f"{len(output.evidence.attention)} and the selection returned of {output.selection.num_kept}"
        )
    if not (np.isfinite(output.evidence.attention).all() and np.isfinite(output.evidence.norm).all()):
        raise PolicyInterfaceError("evidence has values that are not finite")
