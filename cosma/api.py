"""Public functions that take several rooms to answer; the others lie where they belong (`cosma/__init__.py`)."""

from pathlib import Path

from cosma.analysis.explain import explain
from cosma.compile import Prepared
from cosma.deadline import Deadline
from cosma.errors import InputError
from cosma.execute import run as running
from cosma.frontend.load import load_runnable
from cosma.plan import Plan
from cosma.reports.html import render
from cosma.verify import bound_holds, require_valid


def report(plan: Plan, prepared: Prepared, seconds: float = 60.0) -> str:
    """One self-contained HTML page that explains a plan; `cosma report` in Python.

    What would help is computed for so many seconds. Raises VerificationError for a plan that is not valid here, and
    InputError for one whose bound says nothing of this scratchpad.
    """
    require_valid(plan, prepared.problem)
    if not bound_holds(plan, prepared.problem):
        raise InputError("the plan's bound was proved for less room than the model was prepared for; solve again")
    return render(explain(plan, prepared.problem, Deadline.after(seconds)))


def run(
    plan: Plan, prepared: Prepared, model: str | Path, inputs: Path | None = None, seed: int = 0
) -> running.Execution:
    """Execute a plan on real tensors and compare with an ordinary run of `model`; `cosma run` in Python.

    inputs: an .npz file, or tensors drawn from the seed. Raises InputError, and VerificationError for a plan that is
    not valid, moves other bytes than it claims or computes something else than the model.
    """
    _, runnable = load_runnable(Path(model), prepared.source.dims)
    return running.run(plan, prepared, runnable, inputs, seed)
