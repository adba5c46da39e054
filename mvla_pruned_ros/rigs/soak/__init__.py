"""Behind ``mvla soak``: what hours of running are measured by. What talks to ROS is in ``runner.py``."""
