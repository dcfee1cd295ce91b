"""Loops in C for what torch does slowly on a CPU; each file of C beside the one that calls it."""
