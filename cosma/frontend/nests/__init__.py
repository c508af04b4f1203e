"""Nests of ONNX operators, from attributes and shapes: `table.py` has the rules by operator type."""
