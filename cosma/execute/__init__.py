"""Runs plans: real tensors in a byte array of exactly the scratchpad's size. Start reading at `run.py`."""
