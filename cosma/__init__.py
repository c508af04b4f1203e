"""Verified, provably good scratchpad plans for neural networks. See README.md."""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cosma.compile import Settings, prepare, solve
    from cosma.errors import CosmaError, InputError, VerificationError
    from cosma.graph import Graph, Operator, Tensor
    from cosma.modes import Mode
    from cosma.plan import Plan, read_plan
    from cosma.problem import Problem
    from cosma.solvers.options import Options, Result
    from cosma.target.hardware import Hardware, load_hardware
    from cosma.verify import check, require_valid

__version__ = "0.1.0"

__all__ = [
    "CosmaError",
    "Graph",
    "Hardware",
    "InputError",
    "Mode",
    "Operator",
    "Options",
    "Plan",
    "Problem",
    "Result",
    "Settings",
    "Tensor",
    "VerificationError",
    "check",
    "load_hardware",
    "prepare",
    "read_plan",
    "require_valid",
    "solve",
]

_MODULES = {
    "cosma.compile": ("Settings", "prepare", "solve"),
    "cosma.errors": ("CosmaError", "InputError", "VerificationError"),
    "cosma.graph": ("Graph", "Operator", "Tensor"),
    "cosma.target.hardware": ("Hardware", "load_hardware"),
    "cosma.plan": ("Plan", "read_plan"),
    "cosma.modes": ("Mode",),
    "cosma.problem": ("Problem",),
    "cosma.solvers.options": ("Options", "Result"),
    "cosma.verify": ("check", "require_valid"),
}


def __dir__() -> list[str]:
    """The public names, for completion at a prompt."""
    return sorted([*__all__, "__version__"])


def __getattr__(name: str) -> Any:
    """Import public names on first use, so that `cosma --help` does not wait for ONNX."""
    for module, names in _MODULES.items():
        if name in names:
            return getattr(importlib.import_module(module), name)
    raise AttributeError(f"module 'cosma' has no attribute {name!r}")
