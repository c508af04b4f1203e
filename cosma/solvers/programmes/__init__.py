"""Solvers that state one integer programme."""
