"""Run plans on real tensors in a byte array of exactly the size of the scratchpad. Start reading at `run.py`."""
