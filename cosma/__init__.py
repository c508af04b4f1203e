"""Verified, provably good scratchpad plans for neural networks. See README.md."""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cosma.analysis.diff import diff
    from cosma.api import report, run
    from cosma.compile import Settings, prepare, solve
    from cosma.errors import CosmaError, InputError, VerificationError
    from cosma.experiments.compare import compare
    from cosma.experiments.sweep import whatif
    from cosma.graph import Graph, Operator, Tensor
    from cosma.modes import Mode, Overwrite, Stream
    from cosma.plan import Plan, read_plan, write_plan
    from cosma.problem import Memory, Problem
    from cosma.solvers.options import DivideOptions, Options, ProgrammeOptions, Result, SearchOptions
    from cosma.target.hardware import Hardware, load_hardware
    from cosma.verify import check, replay, require_valid

__version__ = "0.1.0"

_MODULES = {
    "cosma.api": ("report", "run"),
    "cosma.analysis.diff": ("diff",),
    "cosma.compile": ("Settings", "prepare", "solve"),
    "cosma.errors": ("CosmaError", "InputError", "VerificationError"),
    "cosma.experiments.compare": ("compare",),
    "cosma.experiments.sweep": ("whatif",),
    "cosma.graph": ("Graph", "Operator", "Tensor"),
    "cosma.modes": ("Mode", "Overwrite", "Stream"),
    "cosma.plan": ("Plan", "read_plan", "write_plan"),
    "cosma.problem": ("Memory", "Problem"),
    "cosma.solvers.options": ("DivideOptions", "Options", "ProgrammeOptions", "Result", "SearchOptions"),
    "cosma.target.hardware": ("Hardware", "load_hardware"),
    "cosma.verify": ("check", "replay", "require_valid"),
}

__all__ = [
    "CosmaError",
    "DivideOptions",
    "Graph",
    "Hardware",
    "InputError",
    "Memory",
    "Mode",
    "Operator",
    "Options",
    "Overwrite",
    "Plan",
    "Problem",
    "ProgrammeOptions",
    "Result",
    "SearchOptions",
    "Settings",
    "Stream",
    "Tensor",
    "VerificationError",
    "check",
    "compare",
    "diff",
    "load_hardware",
    "prepare",
    "read_plan",
    "replay",
    "report",
    "require_valid",
    "run",
    "solve",
    "whatif",
    "write_plan",
]


def __dir__() -> list[str]:
    """The public names, for completion at a prompt."""
    return sorted([*__all__, "__version__"])


def __getattr__(name: str) -> Any:
    """Import public names on first use, so that `cosma --help` does not wait for ONNX."""
    for module, names in _MODULES.items():
        if name in names:
            return getattr(importlib.import_module(module), name)
    raise AttributeError(f"module 'cosma' has no attribute {name!r}")
