"""Blocks that two papers or more use unchanged."""
