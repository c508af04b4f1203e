"""Which operators can write their result over an operand."""

from collections.abc import Iterable
from dataclasses import replace

from cosma.problem import Mode, Problem
from cosma.target.fusion import POINTWISE

# An element of the output depends on the same element of each operand only.
_ELEMENTWISE = (POINTWISE - {"LRN"}) | {
    "Add", "Sub", "Mul", "Div", "Max", "Min", "Sum", "Mean", "Neg", "Sqrt", "Pow", "PRelu",
}  # fmt: skip


def in_place(problem: Problem, v: int, mode: Mode, dying: Iterable[int]) -> Mode | None:
    """The mode in which operator v, otherwise run in `mode`, writes over one of the operands `dying`; None: it cannot.

    `dying` are the operands that no later step uses. The mode takes less workspace, by the bytes of the output.

    An elementwise operator has no more use for an element of an operand once it has written the same element of its
    output. So the output may lie where the operand lies, if that is as large and nobody else asks for its old bytes:
    no later step, and not the host, which still has to get those of a model output. Both together then take the
    operand's bytes, and the working set falls by the output's. What was fused into an operator is not looked at.
    """
    operator, tensors = problem.graph.operators[v], problem.graph.tensors
    if operator.op_type not in _ELEMENTWISE or len(operator.outputs) != 1:
        return None
    output = operator.outputs[0]
    # Before alignment, which makes an operand that is repeated along an axis look as large as the output.
    needed = tensors[output].size_bytes
    if not needed or not any(tensors[a].size_bytes >= needed and tensors[a].kind != "output" for a in dying):
        return None
    return replace(mode, workspace_bytes=mode.workspace_bytes - problem.sizes[output])
