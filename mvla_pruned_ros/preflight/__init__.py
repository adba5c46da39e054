"""What is checked before a robot is driven: evidence of a live graph or a bag in, findings out. Nothing is sent."""
