"""Structured pruning: which channels and heads can go, how much each matters, and how many of them reach a target."""
