"""What the visual tokens of a recording tell the policy: the salience analysis of arXiv 2604.09244."""
