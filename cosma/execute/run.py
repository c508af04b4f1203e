"""Plan + model + inputs -> Execution: run the plan on its machine and compare with an ordinary run."""

import contextlib
import time
from dataclasses import dataclass, field, replace
from math import prod
from pathlib import Path

import numpy as np
from onnx import TensorProto

from cosma.compile import Prepared
from cosma.errors import InputError, VerificationError
from cosma.execute.constants import Constants, read_constants
from cosma.execute.inputs import RANGES, draw_inputs, drawn_integers, read_inputs
from cosma.execute.kernels import Kernels
from cosma.execute.machine import Event, Executed, Machine, digest
from cosma.execute.reference import (
    Difference,
    NotANumberError,
    difference_of,
    first_difference,
    operator_digests,
    run_whole,
)
from cosma.execute.runtime import Bytes, RunError, Value, require_onnxruntime
from cosma.execute.submodel import Nodes
from cosma.execute.symbolic import Symbolic, SymbolicKernels, content
from cosma.frontend.runnable import RunnableModel
from cosma.frontend.structure import element_bits
from cosma.plan import Plan
from cosma.problem import Problem
from cosma.verify import require_valid


@dataclass(frozen=True, slots=True)
class Execution:
    """Result of a run with correct traffic and outputs; byte counts are those of the machine.

    Every operator wrote the same bits as in a reference run. outputs: names and bytes of the model's outputs.
    difference: None if all outputs equal those of a run of the whole model bit for bit; otherwise the first operator
    whose kernel gives other bits there than on its own, or that writes an output which differs. stripped: number of
    weights with random data; absent: the missing files of some of them. drawn: the range of drawn inputs, "" for the
    usual one. tiles_run: how many of so many `tiles` of operators that run in some. seconds: wall time of the plan's
    steps alone. symbolic: why no values were computed; then each byte stood for itself, "" otherwise.
    """

    steps: int
    loads: int
    stores: int
    compulsory_bytes: int
    non_compulsory_bytes: int
    peak_use_bytes: int
    outputs: tuple[tuple[str, int], ...]
    tiles_run: int
    tiles: int
    events: tuple[Event, ...]
    seconds: float
    difference: Difference | None = None
    stripped: int = 0
    absent: tuple[str, ...] = ()
    drawn: str = ""
    symbolic: str = ""


@dataclass(frozen=True, slots=True)
class Ordinary:
    """Reference run of a problem's operators in host memory. home: bytes of inputs and weights, by tensor index.

    digests: of all tensors that operators write.
    """

    kernels: Kernels
    home: dict[int, Bytes]
    digests: dict[int, int]


@dataclass(slots=True)
class Network:
    """A model with weights and inputs, independent of the plan."""

    runnable: RunnableModel
    nodes: Nodes
    constants: Constants
    inputs: dict[str, Value]
    seed: int | None = None  # the inputs were drawn from it
    drawn: str = ""  # in which range, if not in the usual one
    _ordinary: dict[str, Ordinary] = field(default_factory=dict)
    _whole: list[Bytes] | None = None

    @classmethod
    def of(cls, runnable: RunnableModel, inputs: Path | None = None, seed: int = 0) -> "Network":
        """A model with inputs from an .npz file, or drawn from the seed. Raises InputError."""
        nodes = Nodes(runnable.folded.proto)
        constants = read_constants(runnable, seed)
        if inputs is not None:
            return cls(runnable, nodes, constants, read_inputs(inputs, runnable))
        return cls(runnable, nodes, constants, draw_inputs(runnable, nodes, seed), seed)

    def ordinary(self, problem: Problem) -> Ordinary:
        """Reference run of the operators of a problem, run once.

        Drawn inputs that make NaN are drawn again from smaller ranges, unless results for them exist already.
        Raises InputError if a result is still NaN, and if the model cannot run.
        """
        key = problem.fingerprint()
        if key not in self._ordinary:
            kernels = Kernels(problem.graph, self.nodes, self.runnable, self.constants)
            self._ordinary[key] = self._first_without_nan(problem, kernels)
        return self._ordinary[key]

    def _first_without_nan(self, problem: Problem, kernels: Kernels) -> Ordinary:
        try:
            return self._run_once(problem, kernels)
        except NotANumberError:
            if self.seed is None or self._ordinary or self._whole is not None:
                raise
            first = self.inputs
            for attempt in range(1, len(RANGES)):
                self.inputs = draw_inputs(self.runnable, self.nodes, self.seed, attempt)
                self.drawn = RANGES[attempt]
                with contextlib.suppress(NotANumberError):
                    return self._run_once(problem, kernels)
            self.inputs, self.drawn = first, ""
            raise
        except RunError as error:
            integers = [] if self.seed is None else drawn_integers(self.runnable)
            if not integers:
                raise
            names = ", ".join(integers[:5])
            raise InputError(
                f"{error}; the integer inputs ({names}) were drawn: give real ones with --inputs"
            ) from None

    def _run_once(self, problem: Problem, kernels: Kernels) -> Ordinary:
        inputs = {a: self.inputs[t.name] for a, t in enumerate(problem.graph.tensors) if t.kind == "input"}
        home = {a: value.data for a, value in (inputs | kernels.weights).items()}
        return Ordinary(kernels, home, operator_digests(kernels, home))

    def whole(self) -> list[Bytes]:
        """Outputs of a run of the whole model, in its order; run once."""
        if self._whole is None:
            self._whole = run_whole(self.runnable, self.constants, self.inputs)
        return self._whole

    def returned(self, problem: Problem) -> dict[str, int]:
        """Outputs of the model that the plan computes -> index of the tensor that holds them, views resolved."""
        index = {t.name: a for a, t in enumerate(problem.graph.tensors) if t.kind == "output"}
        found = {}
        for value in self.runnable.whole.graph.output:
            name = value.name
            while name not in index and name in self.nodes.written:
                name = next(iter(self.nodes.writer(name).input), "")
            if name in index:
                found[value.name] = index[name]
        return found


def run(
    plan: Plan, prepared: Prepared, runnable: RunnableModel, inputs: Path | None = None, seed: int = 0
) -> Execution:
    """Run a plan of a model that has been read as the plan says.

    Raises InputError if it cannot be run with these inputs, weights or settings, VerificationError if the plan is
    invalid, moves other bytes than it claims, or computes other results than the model.
    """
    require_valid(plan, prepared.problem)
    return execute(plan, prepared.problem, ready(prepared, runnable, inputs, seed))


def ready(prepared: Prepared, runnable: RunnableModel, inputs: Path | None = None, seed: int = 0) -> Network | Symbolic:
    """Make a network and do the reference run of its operators, so that any plan can be run on it.

    Symbolic where the plan is for other element types than those that the model computes with. Raises InputError where
    the model cannot run at all, whichever the plan, and without ONNX Runtime.
    """
    other = _other_types(prepared, Nodes(runnable.folded.proto))
    if other is not None:
        return other
    require_onnxruntime()
    network = Network.of(runnable, inputs, seed)
    network.ordinary(prepared.problem)
    return network


def execute(plan: Plan, problem: Problem, network: Network | Symbolic) -> Execution:
    """Run a plan on a network without verifying it first; raises as `run` does."""
    if isinstance(network, Symbolic):
        return _execute_symbolically(plan, problem, network)
    ordinary = network.ordinary(problem)
    begin = time.perf_counter()
    executed = Machine(plan, problem, ordinary.kernels, ordinary.home).run()
    seconds = time.perf_counter() - begin
    _check_traffic(plan, executed)
    _check_operators(ordinary, executed)
    difference = _compare_with_whole(network, problem, ordinary, executed)
    outputs = tuple((name, executed.outputs[a].size) for name, a in network.returned(problem).items())
    return replace(
        _execution(executed, outputs, seconds),
        difference=difference,
        stripped=len(network.constants.stripped),
        absent=network.constants.absent,
        drawn=network.drawn,
    )


def _execute_symbolically(plan: Plan, problem: Problem, model: Symbolic) -> Execution:
    tensors = problem.graph.tensors
    home = {a: content(a, t.size_bytes) for a, t in enumerate(tensors) if t.is_home}
    begin = time.perf_counter()
    executed = Machine(plan, problem, SymbolicKernels(problem.graph), home).run()
    seconds = time.perf_counter() - begin
    _check_traffic(plan, executed)
    for a, found in executed.outputs.items():
        if not np.array_equal(found, content(a, found.size)):
            raise VerificationError(f"the host copy of {tensors[a].name!r} holds other bytes than its own")
    outputs = tuple((tensors[a].name, found.size) for a, found in executed.outputs.items())
    return replace(_execution(executed, outputs, seconds), symbolic=model.why)


def _execution(executed: Executed, outputs: tuple[tuple[str, int], ...], seconds: float) -> Execution:
    kinds = [event.kind for event in executed.events]
    return Execution(
        steps=kinds.count("exec"),
        loads=kinds.count("load"),
        stores=kinds.count("store"),
        compulsory_bytes=executed.compulsory_bytes,
        non_compulsory_bytes=executed.non_compulsory_bytes,
        peak_use_bytes=executed.peak_use_bytes,
        outputs=outputs,
        tiles_run=executed.tiles_run,
        tiles=executed.tiles,
        events=executed.events,
        seconds=seconds,
    )


def _other_types(prepared: Prepared, nodes: Nodes) -> Symbolic | None:
    """Why no values can be run, where --dtype gave a tensor another size than the data that the model computes with."""
    dtype = prepared.source.dtype
    for tensor in prepared.problem.graph.tensors if dtype is not None else ():
        elem_type, shape = nodes.types.get(tensor.name, (0, ()))
        bits = element_bits(elem_type)
        if bits is None or -(-prod(shape) * bits // 8) != tensor.size_bytes:
            kind = TensorProto.DataType.Name(elem_type).lower()
            kind = {"float": "float32", "double": "float64"}.get(kind, kind)
            return Symbolic(
                f"the plan is for --dtype {dtype}, and the model computes {tensor.name!r} in {kind}; to run values, "
                "compile without --dtype, or quantise the model (quantize_static of onnxruntime.quantization) first"
            )
    return None


def _check_traffic(plan: Plan, executed: Executed) -> None:
    for what in ("compulsory_bytes", "non_compulsory_bytes", "peak_use_bytes"):
        claimed, counted = getattr(plan.claims, what), getattr(executed, what)
        if claimed != counted:
            raise VerificationError(f"the plan claims {what} = {claimed:,}, the run counts {counted:,}")


def _check_operators(ordinary: Ordinary, executed: Executed) -> None:
    """Check that each operator wrote, and the host finally holds, the bits of the reference run."""
    graph = ordinary.kernels.graph
    stored = {a: digest(data) for a, data in executed.outputs.items()}
    for what, found in (("operator {} writes", executed.digests), ("the host copy that {} leaves holds", stored)):
        for a, number in found.items():
            if number != ordinary.digests[a]:
                operator = graph.operators[graph.producer[a] or 0]
                raise VerificationError(
                    f"{what.format(repr(operator.name))} other bytes of {graph.tensors[a].name!r} than in an ordinary "
                    "run: the plan overwrites something that is still needed"
                )


def _compare_with_whole(
    network: Network, problem: Problem, ordinary: Ordinary, executed: Executed
) -> Difference | None:
    """Compare the outputs with those of the whole model; return the first operator whose kernel differs.

    If no inner tensor differs, the writer of the output: reading inner tensors changes how the runtime rounds.
    """
    whole = dict(zip((v.name for v in network.runnable.whole.graph.output), network.whole(), strict=True))
    returned = network.returned(problem).items()
    unequal = [(name, a) for name, a in returned if not np.array_equal(executed.outputs[a], whole[name])]
    if not unequal:
        return None
    found = first_difference(network.runnable, network.constants, network.inputs, ordinary.kernels, ordinary.home)
    if found is None:
        name, a = unequal[0]
        return difference_of(ordinary.kernels, a, executed.outputs[a], whole[name])
    return found
