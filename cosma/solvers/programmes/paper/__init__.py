"""The integer programme of the COSMA paper (arXiv 2311.18246), as published and strengthened."""

from cosma.solvers.programmes.paper.solver import solve, solve_peak

__all__ = ["solve", "solve_peak"]
