"""Processes and pools of them."""
