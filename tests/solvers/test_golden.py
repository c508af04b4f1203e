"""Numbers of the networks in models/ and of those that the onnx package ships: int8, activations only.

Columns: operators, tensors, pairs free to order, M_R, peak in file order, and the least
non-compulsory bytes in file order at M_R and at (M_R + peak) // 2. Cross-checked against an
independent prototype with onnx 1.23; it gave 7,196,799 for AmoebaNet-D (pointwise), which cannot
be: every tensor that can be evicted there has a multiple of 64 bytes.
"""

from pathlib import Path

import onnx
import pytest

from cosma.compile import Settings, prepare
from cosma.deadline import Deadline
from cosma.schedule import replacement
from cosma.schedule.timeline import Timeline
from cosma.solvers.options import Options
from cosma.solvers.search import portfolio
from cosma.solvers.search.bounds import peak_bound
from cosma.solvers.search.space import whole
from cosma.solvers.search.strategies import smallest_peak
from cosma.target.hardware import Hardware
from tests.conftest import MODELS

LIGHT = Path(onnx.__file__).parent / "backend/test/data/light"

GOLDEN = """
amoebanet_d none 716 717 14148 3211264 4816896 12443648 1605632
amoebanet_d pointwise 513 514 7755 2408448 4816896 19153792 7196800
darts_v2 none 493 494 10052 602112 602112 0 0
darts_v2 pointwise 390 391 6624 451584 451584 0 0
deeplabv3_resnet50 none 138 139 76 4816896 4816896 0 0
deeplabv3_resnet50 pointwise 82 83 30 4816896 4816896 0 0
densenet121 none 367 368 0 1605632 2107392 1204224 602112
densenet121 pointwise 188 189 0 1605632 1806336 401408 200704
fcn_resnet50 none 123 124 20 4816896 4816896 0 0
fcn_resnet50 pointwise 73 74 12 4816896 4816896 0 0
lraspp_mobilenet_v3_large none 146 147 121 1605632 1605632 0 0
lraspp_mobilenet_v3_large pointwise 97 98 78 1070160 1070160 0 0
nasnetalarge_224 none 878 879 30448 2365632 3287616 12362196 1053696
nasnetalarge_224 pointwise 718 719 20808 1700298 2405856 23798814 13928190
pnasnet5large_224 none 655 656 19441 2408640 4426134 15711948 2365632
pnasnet5large_224 pointwise 527 528 12867 2365632 3501366 13531968 4034988
r2plus1d_18 none 81 82 21 57802752 70647808 51380224 51380224
r2plus1d_18 pointwise 47 48 12 41746432 54591488 51380224 51380224
resnet50 none 121 122 20 2408448 2408448 0 0
resnet50 pointwise 72 73 12 2408448 2408448 0 0
resnext50_32x4d none 121 122 20 2408448 2408448 0 0
resnext50_32x4d pointwise 72 73 12 2408448 2408448 0 0
s3d none 179 180 918 25690112 25690112 0 0
s3d pointwise 102 103 261 19267584 19267584 0 0
transformer none 435 437 10824 524288 655360 1966080 393216
transformer pointwise 423 425 10560 524288 655360 1966080 393216
vit_b_16 none 367 368 300 1815552 1966848 3631104 3631104
vit_b_16 pointwise 355 356 300 1815552 1966848 3631104 3631104
light_densenet121 none 668 669 0 1605632 2107392 2609152 1404928
light_densenet121 pointwise 426 427 0 1605632 2107392 2609152 1404928
light_inception_v2 none 370 371 3990 1605632 1605632 0 0
light_inception_v2 pointwise 232 233 1506 1605632 1605632 0 0
light_shufflenet none 170 171 24 702464 777728 150528 150528
light_shufflenet pointwise 88 89 12 702464 777728 150528 150528
"""
ROWS = [line.split() for line in GOLDEN.strip().splitlines()]


@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"{row[0]}-{row[1]}")
def test_reference_numbers(row: list[str]) -> None:
    name, fusion, *numbers = row
    folder = LIGHT if name.startswith("light_") else MODELS
    problem = prepare(folder / f"{name}.onnx", Hardware("h", 1), Settings("int8", fusion, False)).problem  # type: ignore[arg-type]
    order = range(len(problem.graph.operators))
    low, peak = problem.working_set_bytes, problem.peak_bytes(order)
    found = [len(order), len(problem.graph.tensors), problem.graph.count_free_pairs(), low, peak]
    for capacity in (low, (low + peak) // 2):
        timeline = Timeline.of(problem.with_capacity(capacity), order)
        placed = replacement.optimise(timeline, "cp-sat", Deadline.after(60))
        assert placed.cost_bytes == placed.bound_bytes  # addresses cost nothing on any of them
        found.append(placed.cost_bytes)
    assert found == [int(n) for n in numbers]


# Optima over all schedules, fusion pointwise, and smallest peaks, fusion none, which an independent
# prototype found by exhaustive search.
OPTIMA = [
    ("densenet121", None, 401408),
    ("r2plus1d_18", None, 51380224),
    ("vit_b_16", None, 3631104),
    ("pnasnet5large_224", None, 338688),
    ("amoebanet_d", None, 3512320),
    ("amoebanet_d", 2784768, 2408448),
    ("transformer", None, 1966080),
    ("nasnetalarge_224", None, 2963520),
    ("nasnetalarge_224", 1996650, 526848),
]
PEAKS = [("pnasnet5large_224", 2836032), ("nasnetalarge_224", 2666688), ("amoebanet_d", 4264960), ("darts_v2", 602112)]


@pytest.mark.parametrize(("name", "capacity", "expected"), OPTIMA)
def test_optima_over_all_schedules(name: str, capacity: int | None, expected: int) -> None:
    problem = prepare(MODELS / f"{name}.onnx", Hardware("h", 1), Settings("int8", "pointwise", False)).problem
    problem = problem.with_capacity(capacity or problem.working_set_bytes)
    outcome = portfolio.solve(problem, Options(), Deadline.after(600))
    assert (outcome.best.cost_bytes, outcome.bound_bytes, outcome.fragmentation_bytes) == (expected, expected, 0)


@pytest.mark.parametrize(("name", "expected"), PEAKS)
def test_smallest_peaks_over_all_schedules(name: str, expected: int) -> None:
    problem = prepare(MODELS / f"{name}.onnx", Hardware("h", 1), Settings("int8", "none", False)).problem
    space = whole(problem)
    found = smallest_peak(space, 10**6, Deadline.after(600))
    assert found.order is not None
    assert found.cost == problem.peak_bytes(found.order) == expected
    assert peak_bound(space) <= expected
