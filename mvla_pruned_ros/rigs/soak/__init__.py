"""Behind ``mvla soak``: what hours of running are measured by. What talks to ROS is in ``ros/soak_runner.py``."""
