"""Cells as people write them, each held against the plain Python loop over a second one with the same history."""
