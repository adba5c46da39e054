"""Fields as parameters of a ROS node."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rcl_interfaces.msg import FloatingPointRange, IntegerRange, ParameterDescriptor
from rclpy.node import Node

from ..configuration.fields import Field


def declare(
    node: Node, fields: Mapping[str, Field], defaults: Mapping[str, Any] | None = None, *, say_bounds: bool = False
) -> dict[str, Any]:
    """Declare a parameter for every field.

    Args:
        defaults: in the place of those of the fields, by name.
        say_bounds: in the description. rclpy's own message for a value out of range does not name them.

    Returns:
        The values that are in force: those the node was started with, else the defaults.
    """
    defaults = defaults or {}
    for name, field in fields.items():
        node.declare_parameter(name, defaults.get(name, field.default), descriptor_of(field, say_bounds=say_bounds))
    return {name: node.get_parameter(name).value for name in fields}


def descriptor_of(field: Field, *, say_bounds: bool) -> ParameterDescriptor:
    """What ``ros2 param describe`` shows."""
    descriptor = ParameterDescriptor(description=field.text, read_only=field.fixed)
    if field.choices:
        descriptor.additional_constraints = f"one of: {', '.join(field.choices)}"
    if field.low is None or field.high is None:
        return descriptor
    if say_bounds:
        descriptor.description += f" [{field.low:g}, {field.high:g}]"
    if isinstance(field.default, float):
        descriptor.floating_point_range = [FloatingPointRange(from_value=field.low, to_value=field.high)]
    else:
        descriptor.integer_range = [IntegerRange(from_value=int(field.low), to_value=int(field.high))]
    return descriptor
