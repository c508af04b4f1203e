"""Which operators can write their result over an operand."""

from collections.abc import Iterable
from dataclasses import replace

from cosma.modes import Mode, Overwrite
from cosma.problem import Problem
from cosma.target.fusion import POINTWISE

# An element of the output depends on the same element of each operand only.
_ELEMENTWISE = (POINTWISE - {"LRN"}) | {
    "Add", "Sub", "Mul", "Div", "Max", "Min", "Sum", "Mean", "Neg", "Sqrt", "Pow", "PRelu",
}  # fmt: skip


def in_place(problem: Problem, v: int, dying: Iterable[int]) -> Mode | None:
    """The mode in which operator v writes over one of the operands `dying`, those that no later step uses; None: none.

    An elementwise operator has no more use for an element of an operand once it has written the same element of its
    output. So the output may lie where the operand lies, if that is as large and its old bytes are not read again:
    no later step, and not the host, which still has to get those of a model output. Both together then take the
    operand's bytes, and the working set falls by the output's. What was fused into an operator is not looked at.
    """
    operator, tensors = problem.graph.operators[v], problem.graph.tensors
    if operator.op_type not in _ELEMENTWISE or len(operator.outputs) != 1:
        return None
    output = operator.outputs[0]
    # Before alignment, which makes an operand that is repeated along an axis look as large as the output.
    needed = tensors[output].size_bytes
    under = (a for a in dying if tensors[a].size_bytes >= needed > 0 and tensors[a].kind != "output")
    over = tuple(Overwrite(output, a) for a in under)[:1]
    return replace(problem.modes[v][0], overwrites=over) if over else None
