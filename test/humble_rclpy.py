"""A plugin for pytest (``-p humble_rclpy``) that takes away from rclpy what that of Humble does not have."""

from __future__ import annotations

import sys

import rclpy.event_handler
import rclpy.executors
import rclpy.lifecycle
import rclpy.node
import rclpy.subscription

# Only names that stay are imported from here on: rclpy itself has what it needs by now.
sys.modules["rclpy.qos_event"] = sys.modules["rclpy.event_handler"]
sys.modules["rclpy.event_handler"] = None  # type: ignore[assignment]
del rclpy.node.Node.add_pre_set_parameters_callback
del rclpy.node.Node.add_post_set_parameters_callback
del rclpy.subscription.Subscription.get_publisher_count
