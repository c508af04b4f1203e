"""Operators on bytes: results depend on no address, differences are measured and named."""

from pathlib import Path

import ml_dtypes
import numpy as np
import onnx
import pytest
from onnx import TensorProto

from cosma.errors import InputError
from cosma.execute.reference import ulps
from cosma.execute.run import execute
from cosma.execute.runtime import Session, Value, allocate
from tests.conftest import MODELS, model, node, save, value
from tests.planned import compiled, network_of, run_plan


def test_results_do_not_depend_on_addresses() -> None:
    # Summed in vectors of 16 bytes, after as many single numbers as an address lacks.
    session = Session(model([node("ReduceMean", "x", "y", "mean", axes=[1])], [value("x", (17, 17))], [value("y")]))
    data = np.random.default_rng(0).standard_normal(17 * 17).astype(np.float32).view(np.uint8)
    block, written = allocate(data.size + 64), allocate(68 + 64)
    found = set()
    for start in range(0, 64, 4):
        block[start : start + data.size] = data
        given = Value(1, (17, 17), block[start : start + data.size])
        output = Value(1, (17, 1), written[start : start + 68])
        session.run_into([given], [output], "mean")
        found |= {output.data.tobytes(), session.run({"x": given})[0].data.tobytes()}
    assert len(found) == 1


def test_plans_with_any_offsets_run(tmp_path: Path) -> None:
    nodes = [node("Relu", "x", "a", "relu"), node("ReduceMean", "a", "y", "mean", axes=[1])]
    path = save(tmp_path, model(nodes, [value("x", (17, 17))], [value("y", (17, 1))]))
    plan, prepared = compiled(path, fusion="none")
    assert any(r.offset_bytes % 16 for r in plan.residencies)
    assert run_plan(plan, prepared, path).difference is None


def test_a_difference_that_looking_for_it_hides_is_the_writers() -> None:
    # As with float16, which is rounded wherever an inner tensor is returned: no operator differs, an output does.
    path = MODELS / "tiny_branches.onnx"
    plan, prepared = compiled(path)
    network = network_of(path)
    numbers = network.whole()[1].view(np.int32)
    numbers[7] += 3
    found = execute(plan, prepared.problem, network).difference
    assert found is not None
    assert (found.operator, found.tensor, found.ulps) == ("sum", "sum", 3)


@pytest.mark.parametrize("kind", ["BFLOAT16", "FLOAT8E4M3FN", "FLOAT8E5M2FNUZ"])
def test_nan_of_every_type_is_refused(tmp_path: Path, kind: str) -> None:
    elem_type = getattr(TensorProto, kind)
    proto = model(
        [node("Transpose", "x", "y", "turn")], [value("x", (1, 3), elem_type)], [value("y", (3, 1), elem_type)],
        opset=21,
    )  # fmt: skip
    path = save(tmp_path, proto)
    plan, prepared = compiled(path)
    network, dtype = network_of(path), onnx.helper.tensor_dtype_to_np_dtype(elem_type)
    network.seed = None  # given, not drawn
    network.inputs["x"] = Value.of(np.array([[1, np.nan, 2]], np.float32).astype(dtype))
    with pytest.raises(InputError, match=r"'turn' \(Transpose\) makes NaN"):
        execute(plan, prepared.problem, network)


def test_ulps_of_every_width() -> None:
    def distance(dtype: object, one: list[float], other: list[float]) -> int:
        return ulps(Value.of(np.array(one, dtype)), Value.of(np.array(other, dtype)))

    assert distance(np.float64, [1, 1], [1, 1 + 2 * 2**-52]) == 2
    assert distance(np.float64, [-1], [-1 - 2**-52]) == 1
    assert distance(np.int64, [0, 2**60], [0, 2**60 + 3]) == 3
    assert distance(np.int64, [-(2**63)], [2**63 - 1]) == 2**64 - 1
    assert distance(np.uint64, [2**64 - 1, 5], [2**64 - 3, 5]) == 2
    assert distance(ml_dtypes.float8_e4m3fn, [0.5, -2], [0.5, -2.25]) == 1
    assert distance(bool, [True], [False]) == 1


def test_the_operator_that_fails_is_named(tmp_path: Path) -> None:
    # Both are one model but for their names, which ONNX Runtime reads once.
    nodes = [node("Gather", "t i", "a", "first"), node("Gather", "t j", "b", "second"), node("Add", "a b", "y", "add")]
    indices = [value(name, (3,), TensorProto.INT64) for name in "ij"]
    path = save(tmp_path, model(nodes, [value("t", (10, 4)), *indices], [value("y", (3, 4))]))
    plan, prepared = compiled(path)
    np.savez(tmp_path / "x.npz", t=np.ones((10, 4), np.float32), i=np.array([0, 1, 2]), j=np.array([0, 1, 99]))
    with pytest.raises(InputError, match=r"cannot run 'second': .*running Gather node. Status.*idx=99") as error:
        run_plan(plan, prepared, path, tmp_path / "x.npz")
    assert "first" not in str(error.value)
