"""Why there is no plan, and with what there would be one: plain data."""

from dataclasses import dataclass

from cosma.compile import Prepared
from cosma.problem import Shortage
from cosma.target.hardware import Hardware, load_hardware, spec_names
from cosma.target.mode_sets import parse_modes, problem_of
from cosma.units import align_up

_SPECS = 5  # names of specs in one line


@dataclass(frozen=True, slots=True)
class NoPlan:
    """Every operator that is too large on its own, the largest first; changes with which a plan exists, or may."""

    shortages: tuple[Shortage, ...]
    remedies: tuple[str, ...]


def why_no_plan(prepared: Prepared, hardware: Hardware) -> NoPlan:
    """What does not fit, and what would help. At least one operator must be too large for the hardware."""
    shortages = tuple(prepared.problem.shortages())
    needed_bytes = shortages[0].needed_bytes
    specs = _specs_with(needed_bytes)
    remedies = [
        f"--scratchpad '{align_up(needed_bytes, hardware.alignment_bytes)} B', the smallest capacity that works",
        f"--hw with one of: {', '.join(specs)}" if specs else "none of hw_specs has that much",
    ]
    remedies = [*_streaming(prepared, hardware), *remedies]
    if prepared.source.weights:
        remedies.append("--no-weights, if parameters are kept elsewhere")
    if prepared.source.dtype != "int8":
        remedies.append("a smaller element type, e.g. --dtype int8")
    return NoPlan(shortages, tuple(remedies))


def _streaming(prepared: Prepared, hardware: Hardware) -> list[str]:
    """Streams and tiles where they are not declared, and the capacity from which on no operator runs on the host."""
    modes = parse_modes("all", hardware)
    if set(modes) <= set(prepared.source.modes):
        return []
    problem = problem_of(prepared.problem.graph, hardware.memory, modes, hardware.tiler)
    least = align_up(problem.smallest_capacity_bytes, hardware.alignment_bytes)
    host = f"; here {len(problem.on_host)} of them do" if problem.on_host else ""
    return [f"--modes all, which streams and tiles operands: from {least:,} B on no operator runs on the host{host}"]


def _specs_with(needed_bytes: int) -> list[str]:
    """Names of the smallest specs that come with cosma and hold a working set of this size."""
    enough = [spec for name in spec_names() if (spec := load_hardware(name)).capacity_bytes >= needed_bytes]
    return [spec.name for spec in sorted(enough, key=lambda spec: spec.capacity_bytes)][:_SPECS]
