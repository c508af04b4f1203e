"""What solvers that state a programme to others share: the certified skip, the model's size, distrust."""

from dataclasses import replace

from cosma.solvers import backends
from cosma.solvers.base import Deadline, Options, Size
from cosma.solvers.milp import Model
from cosma.solvers.outcome import Outcome, Placed, violations


def no_plan_cheaper(incumbent: Placed, always: bool, options: Options, deadline: Deadline) -> Outcome | None:
    """The incumbent where it meets the trivial bound, unless the programme is wanted in any case."""
    if incumbent.cost_bytes or always or options.write_model is not None:
        return None
    why = "a schedule fits without evictions; no programme is needed"
    return Outcome(incumbent, 0, "nothing to evict", (why,), 0, 0, first_s=deadline.elapsed_s)


def measure(model: Model, unit: int, options: Options, deadline: Deadline) -> Size:
    """The model's size, with its root bound in bytes if wanted; writes it to a file if wanted."""
    if options.write_model is not None:
        backends.write(model, options.write_model, deadline)
    if not options.root_bound:
        return model.size
    root = backends.relaxation(model, deadline.share(0.5))
    return replace(model.size, root_bound=None if root is None else root * unit)


def better_of(incumbent: Placed, found: Placed | None, backend: str) -> tuple[Placed, str]:
    """The cheaper plan of the two, and what the verifier says against the one found, if it is not used for that."""
    if found is None or found.cost_bytes >= incumbent.cost_bytes:
        return incumbent, ""
    faults = violations(found)
    if faults:
        return incumbent, f"the plan of {backend} does not replay ({faults[0]}); it is the solver's fault, and not used"
    return found, ""
