"""Mode sets: what `--modes` declares, and the problem of running a graph in those modes."""

from typing import get_args

from cosma.errors import InputError
from cosma.graph import Graph
from cosma.modes import ModeSet
from cosma.nest import Tiler
from cosma.problem import Memory, Problem
from cosma.target.hardware import Hardware
from cosma.target.spec import hint
from cosma.target.tiling import modes_of

MODE_SETS: tuple[ModeSet, ...] = get_args(ModeSet)
WORDS = (*MODE_SETS, "all", "paper")
Modes = tuple[ModeSet, ...]


def parse_modes(text: str, hardware: Hardware) -> Modes:
    """The mode sets of a comma-separated list: "all" is every one that the machine has or may have, "paper" none.

    Raises InputError, also for a set that the machine is known not to have.
    """
    words = [word.strip() for word in text.split(",")]
    for word in words:
        if word not in WORDS:
            raise InputError(f"--modes {text!r}: {word!r} is unknown{hint(word, WORDS)}; use {', '.join(WORDS)}")
    if len(words) > 1 and {"all", "paper"} & set(words):
        raise InputError(f"--modes {text!r}: 'all' and 'paper' stand alone; use one of them or a list of the others")
    known = dict(hardware.modes)
    if words == ["all"]:
        return tuple(name for name in MODE_SETS if known.get(name, True))
    for name in words:
        if name in MODE_SETS and not known.get(name, True):
            raise InputError(f"--modes {text!r}: modes.{name} of {hardware.name!r} is false; leave {name!r} out")
    return tuple(name for name in MODE_SETS if name in words)


def assumed(modes: Modes, hardware: Hardware) -> Modes:
    """Those of some mode sets of which it is not known whether the machine has them."""
    return tuple(name for name in modes if name not in dict(hardware.modes))


def modes_text(modes: Modes) -> str:
    """The mode sets as `parse_modes` reads them: each by its name, so that "all" of another version is another text."""
    return ",".join(modes) or "paper"


def problem_of(graph: Graph, memory: Memory, modes: Modes, tiler: Tiler) -> Problem:
    """The problem of running a graph: with streams and tiles, and on the host what fits in none of them, or neither."""
    if "tile" not in modes:
        return Problem(graph, memory)
    return Problem(graph, memory, modes_of(graph, memory, tiler), uses_host=True, tiler=tiler)
