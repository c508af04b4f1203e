"""What solvers that state a programme to others share: the certified skip, the programme's size, distrust."""

from dataclasses import replace

from cosma.deadline import Deadline
from cosma.milp import backends
from cosma.milp.programme import Programme, ProgrammeTooLargeError, Size
from cosma.schedule.placed import Placed, violations
from cosma.solvers.options import Options
from cosma.solvers.outcome import Outcome


def no_plan_cheaper(incumbent: Placed, always: bool, options: Options, deadline: Deadline) -> Outcome | None:
    """The incumbent where it meets the trivial bound, unless the programme is wanted in any case."""
    if incumbent.cost_bytes or always or options.programme.write_model is not None:
        return None
    why = "a schedule fits without evictions; no programme is needed"
    return Outcome(incumbent, 0, "nothing to evict", (why,), 0, 0, first_s=deadline.elapsed_s)


def measure(programme: Programme, unit: int, options: Options, deadline: Deadline) -> Size:
    """The programme's size, with its root bound in bytes if wanted; writes it to a file if wanted."""
    notes, root = [], None
    if options.programme.write_model is not None:
        notes.append(backends.write(programme, options.programme.write_model, unit, deadline))
    if options.programme.root_bound:
        root = backends.relaxation(programme, deadline.share(0.5))
        notes.append("" if root is not None else "root bound not found in time")
    root_bound = None if root is None else root * unit
    return replace(programme.size, root_bound=root_bound, note="; ".join(filter(None, notes)))


def too_large(incumbent: Placed, error: ProgrammeTooLargeError, options: Options, first_s: float) -> Outcome:
    """The incumbent, where the programme was not stated to the end; its full size is unknown."""
    asked = [str(options.programme.write_model)] if options.programme.write_model is not None else []
    asked += ["root bound"] if options.programme.root_bound else []
    why = (str(error), *(f"no {what}: the programme was not stated to its end" for what in asked))
    return Outcome(incumbent, 0, "trivial", why, first_s=first_s)


def better_of(incumbent: Placed, found: Placed | None, backend: str) -> tuple[Placed, str]:
    """The cheaper plan of the two, and what the verifier says against the one found, if it is not used for that."""
    if found is None or found.cost_bytes >= incumbent.cost_bytes:
        return incumbent, ""
    faults = violations(found)
    if faults:
        return incumbent, f"the plan of {backend} does not replay ({faults[0]}); it is the solver's fault, and not used"
    return found, ""
