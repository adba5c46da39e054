"""Faults put before a live policy node, and what it does: ``mvla faults``."""
