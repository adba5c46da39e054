"""ROS 2 nodes and what they need. The only part of the package that imports rclpy."""

import os

# OpenMP reads it when torch or Open3D is loaded, which the imports of the nodes do: see ``environment``.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
