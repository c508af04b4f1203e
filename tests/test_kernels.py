"""Operators on bytes: results depend on no address, differences are measured and named."""

from pathlib import Path

import numpy as np

from cosma.execute.run import run
from cosma.execute.runtime import Session, Value, allocate
from tests.conftest import model, node, save, value
from tests.planned import compiled


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
        session.run_into([given], [output])
        found |= {output.data.tobytes(), session.run({"x": given})[0].data.tobytes()}
    assert len(found) == 1


def test_plans_with_any_offsets_run(tmp_path: Path) -> None:
    nodes = [node("Relu", "x", "a", "relu"), node("ReduceMean", "a", "y", "mean", axes=[1])]
    path = save(tmp_path, model(nodes, [value("x", (17, 17))], [value("y", (17, 1))]))
    plan, prepared = compiled(path, fusion="none")
    assert any(r.offset_bytes % 16 for r in plan.residencies)
    assert run(plan, prepared, path).difference is None
