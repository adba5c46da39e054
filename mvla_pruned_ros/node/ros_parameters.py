"""Fields as parameters of a ROS node."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rcl_interfaces.msg import FloatingPointRange, IntegerRange, ParameterDescriptor
from rclpy.node import Node
from rclpy.parameter import Parameter

from ..configuration.fields import Field
from ..configuration.reader import check_names

OF_ROS = ("use_sim_time", "start_type_description_service")
QOS = "qos_overrides."


def declare(
    node: Node, fields: Mapping[str, Field], defaults: Mapping[str, Any] | None = None, *, say_bounds: bool = False
) -> dict[str, Any]:
    """Declare a parameter for every field; a whole number may stand for a float.

    Args:
        defaults: in the place of those of the fields, by name.
        say_bounds: in the description, too.

    Returns:
        The values that are in force: those the node was started with, else the defaults.
    """
    defaults, given = defaults or {}, node._parameter_overrides
    for name, field in fields.items():
        if name in given:
            given[name] = _as_float(given[name], fields)
        node.declare_parameter(name, defaults.get(name, field.default), descriptor_of(field, say_bounds=say_bounds))
    return {name: node.get_parameter(name).value for name in fields}


def take_whole_numbers(node: Node, fields: Mapping[str, Field]) -> None:
    """Let whole numbers stand for floats in what is set later. Once a node: rclpy joins the lists of all callbacks."""
    node.add_pre_set_parameters_callback(lambda parameters: [_as_float(p, fields) for p in parameters])


def refuse_unknown_overrides(node: Node, fields: Mapping[str, Field]) -> None:
    """Refuse parameters, given at start, that the node does not have: rclpy leaves them out, and a misspelt limit would
    silently not hold. Call it when parameters, publishers and subscriptions are there.

    Raises:
        ValueError: names the parameter and the nearest known one.
    """
    of_qos = [name for name in node._parameters if name.startswith(QOS)]
    given = list(node._parameter_overrides)
    check_names([name for name in given if not name.startswith(QOS)], [*fields, *OF_ROS], "parameter")
    check_names([name for name in given if name.startswith(QOS)], of_qos, "parameter")


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


def _as_float(parameter: Parameter, fields: Mapping[str, Field]) -> Parameter:
    """The parameter with floats in the place of whole numbers, where its field takes floats."""
    field, value, kinds = fields.get(parameter.name), parameter.value, Parameter.Type
    if field is None:
        return parameter
    if parameter.type_ == kinds.INTEGER and isinstance(field.default, float):
        return Parameter(parameter.name, kinds.DOUBLE, float(value))
    if (
        parameter.type_ == kinds.INTEGER_ARRAY
        and isinstance(field.default, list)
        and isinstance(field.default[0], float)
    ):
        return Parameter(parameter.name, kinds.DOUBLE_ARRAY, [float(v) for v in value])
    return parameter
