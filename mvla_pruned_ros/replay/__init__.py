"""``mvla replay``: a bag through the policy, pruned beside unpruned, without ROS."""
