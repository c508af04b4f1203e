"""Solvers, bounds and what they share. Each takes a Problem; none is trusted: plans are replayed."""
