"""Plan + model + inputs -> Execution: run the plan on its machine and compare with an ordinary run."""

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from cosma.compile import Prepared
from cosma.errors import InputError, VerificationError
from cosma.execute.constants import Constants, read_constants
from cosma.execute.inputs import draw_inputs, read_inputs
from cosma.execute.kernels import Kernels
from cosma.execute.machine import Event, Executed, Machine
from cosma.execute.reference import Difference, first_difference, refuse_nan, run_operators, run_whole, ulps
from cosma.execute.runtime import Bytes, Value, require_onnxruntime
from cosma.execute.submodel import Nodes, byte_size
from cosma.frontend.onnx_ import load
from cosma.frontend.program import Program, read_program
from cosma.plan import Plan
from cosma.problem import Problem
from cosma.verify import require_valid


@dataclass(frozen=True, slots=True)
class Execution:
    """A run whose traffic and outputs are as they should be; byte counts are the machine's own.

    outputs: the compared outputs of the model with their bytes. difference: None if all equal an
    ordinary run of the whole model bit for bit; otherwise the first operator whose kernel gives other
    bits there than on its own, the outputs then equal a run operator by operator. stripped: weights
    that were made up. seconds: wall time of the plan's steps alone.
    """

    steps: int
    loads: int
    stores: int
    compulsory_bytes: int
    non_compulsory_bytes: int
    peak_use_bytes: int
    outputs: tuple[tuple[str, int], ...]
    difference: Difference | None
    stripped: int
    events: tuple[Event, ...]
    seconds: float


@dataclass(slots=True)
class Network:
    """A model with weights and inputs: what stays the same whichever plan runs."""

    program: Program
    nodes: Nodes
    constants: Constants
    inputs: dict[str, Value]
    _kernels: dict[str, Kernels] = field(default_factory=dict)
    _whole: list[Bytes] | None = None

    @classmethod
    def read(cls, path: Path, dims: Mapping[str, int], inputs: Path | None = None, seed: int = 0) -> "Network":
        """Read a model; inputs from an .npz file or from the seed. Raises InputError."""
        require_onnxruntime()
        program = read_program(path, dims)
        nodes = Nodes(program.folded)
        constants = read_constants(program, seed)
        given = draw_inputs(program, nodes, seed) if inputs is None else read_inputs(inputs, program)
        return cls(program, nodes, constants, given)

    def kernels(self, problem: Problem) -> Kernels:
        """The operators of a problem, ready to run."""
        key = problem.fingerprint()
        if key not in self._kernels:
            self._kernels[key] = Kernels(problem.graph, self.nodes, self.program, self.constants)
        return self._kernels[key]

    def home(self, kernels: Kernels) -> dict[int, Bytes]:
        """What host memory holds from the start: inputs and weights by tensor index."""
        named = {a: t.name for a, t in enumerate(kernels.graph.tensors) if t.kind == "input"}
        return {a: self.inputs[name].data for a, name in named.items()} | {
            a: value.data for a, value in kernels.weights.items()
        }

    def whole(self) -> list[Bytes]:
        """The outputs of an ordinary run, in the model's order; run once."""
        if self._whole is None:
            sizes = [byte_size(self.nodes.types[v.name]) for v in self.program.whole.graph.output]
            self._whole = run_whole(self.program, self.constants, self.inputs, sizes)
        return self._whole

    def returned(self, problem: Problem) -> dict[str, int]:
        """The model's outputs that the plan computes -> the tensor that holds them, views looked through."""
        index = {t.name: a for a, t in enumerate(problem.graph.tensors) if t.kind == "output"}
        found = {}
        for value in self.program.whole.graph.output:
            name = value.name
            while name not in index and name in self.nodes.written:
                name = next(iter(self.nodes.writer(name).input), "")
            if name in index:
                found[value.name] = index[name]
        return found


def run(plan: Plan, prepared: Prepared, path: Path, inputs: Path | None = None, seed: int = 0) -> Execution:
    """Run a plan of the model at `path`, which has been read as the plan says.

    Raises InputError for inputs, weights or settings that it cannot be run with, VerificationError for
    a plan that is not valid, moves other bytes than it claims or computes something else than the model.
    """
    _refuse_override(prepared, path)
    return execute(plan, prepared.problem, Network.read(path, prepared.source.dims, inputs, seed))


def execute(plan: Plan, problem: Problem, network: Network) -> Execution:
    """Run a plan on a network that is at hand; as `run`."""
    require_valid(plan, problem)
    kernels = network.kernels(problem)
    home = network.home(kernels)
    begin = time.perf_counter()
    executed = Machine(plan, problem, kernels, home).run()
    seconds = time.perf_counter() - begin
    if executed.nan is not None:
        refuse_nan(kernels, home)
        raise VerificationError(f"operator {executed.nan!r} writes NaN, as it does not in an ordinary run: stale bytes")
    _check_traffic(plan, executed)
    difference = _compare(network, problem, kernels, home, executed)
    kinds = [event.kind for event in executed.events]
    return Execution(
        steps=len(plan.order),
        loads=kinds.count("load"),
        stores=kinds.count("store"),
        compulsory_bytes=executed.compulsory_bytes,
        non_compulsory_bytes=executed.non_compulsory_bytes,
        peak_use_bytes=executed.peak_use_bytes,
        outputs=tuple((name, executed.outputs[a].size) for name, a in network.returned(problem).items()),
        difference=difference,
        stripped=len(network.constants.stripped),
        events=executed.events,
        seconds=seconds,
    )


def _refuse_override(prepared: Prepared, path: Path) -> None:
    """Refuse a plan whose sizes are not those of the data that the model computes with."""
    source = prepared.source
    if source.dtype is None:
        return
    own = {t.name: t for t in load(path, source.dims).graph.tensors}
    for tensor in prepared.problem.graph.tensors:
        if own[tensor.name].size_bytes != tensor.size_bytes:
            raise InputError(
                f"the plan was made with --dtype {source.dtype}, but the model computes {tensor.name!r} in "
                f"{own[tensor.name].dtype}; compile without --dtype to run it, or quantise the model first"
            )


def _check_traffic(plan: Plan, executed: Executed) -> None:
    for what in ("compulsory_bytes", "non_compulsory_bytes", "peak_use_bytes"):
        claimed, counted = getattr(plan.claims, what), getattr(executed, what)
        if claimed != counted:
            raise VerificationError(f"the plan claims {what} = {claimed:,}, the run counts {counted:,}")


def _compare(
    network: Network, problem: Problem, kernels: Kernels, home: dict[int, Bytes], executed: Executed
) -> Difference | None:
    """Compare the outputs bit for bit: with the whole model; if that differs, operator by operator."""
    returned = network.returned(problem)
    places = [v.name for v in network.program.whole.graph.output]
    whole = dict(zip(places, network.whole(), strict=True))
    if all(np.array_equal(executed.outputs[a], whole[name]) for name, a in returned.items()):
        return None
    values: Mapping[int, Value] = {}
    for _, values in run_operators(kernels, home):  # noqa: B007 (the last one is wanted)
        pass
    for name, a in returned.items():
        if not np.array_equal(executed.outputs[a], values[a].data):
            off = ulps(Value(*kernels.types[a], executed.outputs[a]), values[a])
            raise VerificationError(
                f"output {name!r} differs from an ordinary run, by up to {off:,} ULPs: the plan corrupts data"
            )
    difference = first_difference(network.program, network.constants, network.inputs, kernels, home)
    if difference is None:
        raise VerificationError("the model as planned computes something else than the file, in every operator alike")
    return difference
