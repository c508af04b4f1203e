"""Every kind of bad input: one clear line, a documented exit code, no traceback, nothing half-written."""

import json
import random
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from cosma.experiments.row_files import columns
from cosma.experiments.rows import Compared, Swept
from tests.conftest import MODELS, model, node, save, value

RELU = [node("Relu", "x", "y")]


def written(proto) -> Callable[[Path], Path]:
    return lambda folder: save(folder, proto)


def raw(content: bytes, name: str = "model.onnx") -> Callable[[Path], Path]:
    def write(folder: Path) -> Path:
        (folder / name).write_bytes(content)
        return folder / name

    return write


def weight(name: str, *shape: int):
    return numpy_helper.from_array(np.ones(shape, np.float32), name)


def huge() -> object:
    shape = (2**40, 2**40)
    return model(RELU, [value("x", shape)], [value("y", shape)])


def sequence_input() -> object:
    info = helper.make_tensor_sequence_value_info("x", TensorProto.FLOAT, (1,))
    return model([node("SequenceLength", "x", "y")], [info], [value("y", (), TensorProto.INT64)])


def missing_subgraph_name() -> object:
    body = helper.make_graph([node("Add", "x nowhere", "o")], "then", [], [value("o")])
    return model([helper.make_node("If", ["c"], ["y"], then_branch=body, else_branch=body)], ["x", value("c", (), 9)])


STRINGS = model(
    [node("Mystery", "x", "y")], [value("x", (2,), TensorProto.STRING)], [value("y", (2,), TensorProto.STRING)]
)

MODELS_REFUSED: dict[str, tuple[Callable[[Path], Path], str]] = {
    "no such file": (lambda folder: folder / "absent.onnx", "cannot read the model (No such file or directory)"),
    "a directory": (lambda folder: folder, "cannot read the model (Is a directory)"),
    "empty file": (raw(b""), "holds no graph (0 bytes)"),
    "text": (raw(b"hello, I am not a model"), "not an ONNX"),
    "a PNG": (raw(b"\x89PNG\r\n\x1a\n" + bytes(100)), "not an ONNX"),
    "no graph": (raw(b"\x08\x08"), "holds no graph"),
    "empty graph": (written(model([])), "has no operators"),
    "only weights": (written(model([node("Identity", "w", "y")], [], initializers=[weight("w", 8)])), "no operators"),
    "cycle": (written(model([node("Add", "x b", "a", "p"), node("Relu", "a", "b", "q"), *RELU])), "form a cycle: 'p' -> 'q' -> 'p'"),
    "self loop": (written(model([node("Add", "x y", "y", "me")])), "form a cycle: 'me' -> 'me'"),
    "written twice": (written(model([*RELU, node("Tanh", "x", "y")])), "tensor 'y' is written twice"),
    "input written": (written(model([*RELU, node("Tanh", "y", "x")])), "'x' is an input or a weight and is also written"),
    "two inputs of a name": (written(model(RELU, ["x", "x"])), "2 inputs of the model are called 'x'"),
    "two weights of a name": (
        written(model([node("Add", "x w", "y")], initializers=[weight("w", 8), weight("w", 8)])),
        "2 weights of the model are called 'w'",
    ),
    "dangling input": (written(model([node("Add", "x ghost", "y", "add")])), "operator 'add' reads 'ghost', which nothing produces"),
    "dangling output": (written(model(RELU, outputs=["z"])), "model output 'z' is produced by no operator"),
    "dangling in a branch": (written(missing_subgraph_name()), "reads 'nowhere', which nothing produces"),
    "size beyond 2^63": (written(huge()), "sizes must lie between 0 and 2^63 - 1"),
    "sum beyond 2^63": (
        written(model([*RELU, node("Relu", "y", "z")], [value("x", (2**60,))], [value("y", None), value("z", None)])),
        "add up to",
    ),
    "negative dimension": (written(model(RELU, [value("x", (-4, 2))], [value("y", (-4, 2))])), "dynamic dimensions: x:0"),
    "missing shape": (written(model([node("Mystery", "x", "y")], outputs=[value("y", None)])), "'y' of operator 'Mystery:y' (Mystery) has no shape"),
    "missing type": (
        written(model([node("Mystery", "x", "y")], outputs=[value("y", (1, 8), TensorProto.UNDEFINED)])), "no sized element type",
    ),
    "strings": (written(STRINGS), "'x' holds strings, whose size is not known"),
    "sequence": (written(sequence_input()), "'x' is of type sequence, not a tensor"),
    "inner sequence": (
        written(model([node("SplitToSequence", "x", "s"), node("ConcatFromSequence", "s", "y", axis=1)])),
        "'s' is of type sequence, not a tensor",
    ),
    "dynamic dimension": (
        written(model(RELU, [value("x", ("batch", 3))], [value("y", ("batch", 3))])), "dynamic dimensions: batch; set them, e.g. --dim batch=1",
    ),
    "anonymous dynamic dimension": (written(model(RELU, [value("x", (None, 3))], [value("y", (None, 3))])), "--dim x:0=1"),
}  # fmt: skip


@pytest.mark.parametrize("kind", MODELS_REFUSED)
@pytest.mark.parametrize("command", ["compile", "inspect"])
def test_models(run, tmp_path: Path, kind: str, command: str) -> None:
    make, complaint = MODELS_REFUSED[kind]
    outcome = run(
        command, make(tmp_path), "--scratchpad", "1GiB", *(["-o", tmp_path / "p.json"] if command == "compile" else [])
    )
    assert outcome.code == 2
    assert complaint in outcome.err
    assert outcome.err.count("\n") == 1
    assert not (tmp_path / "p.json").exists()


ARGUMENTS_REFUSED: dict[str, tuple[list[str], str]] = {
    "no hardware": ([], "no hardware given; add --hw SPEC"),
    "unknown hardware": (["--hw", "nvdia_large"], "did you mean 'nvdla_large'"),
    "missing spec file": (["--hw", "no.yaml"], "cannot read the hardware spec"),
    "capacity without unit": (["--scratchpad", "512"], "--scratchpad: '512' has no unit; write e.g. '512 B'"),
    "negative capacity": (["--scratchpad", "-1KiB"], "is negative"),
    "zero capacity": (["--scratchpad", "0B"], "holds nothing"),
    "wrong unit": (["--scratchpad", "5 GHz"], "unknown unit 'GHz'"),
    "half a byte": (["--scratchpad", "0.5B"], "not a whole number of bytes"),
    "absurd capacity": (["--scratchpad", "1e300 B"], "does not fit in 63 bits"),
    "unknown dtype": (["--scratchpad", "1MiB", "--dtype", "int7"], "'int7' is not one of"),
    "unknown fusion": (["--scratchpad", "1MiB", "--fusion", "all"], "'all' is not one of"),
    "unknown solver": (["--scratchpad", "1MiB", "--solver", "magic"], "--solver 'magic': no such solver; use one of auto,"),
    "negative time": (["--scratchpad", "1MiB", "--time-limit", "-1"], "not in the range"),
    "time that is not a number": (["--scratchpad", "1MiB", "--time-limit", "nan"], "nan is no number of seconds"),
    "malformed dim": (["--scratchpad", "1MiB", "--dim", "batch"], "is not NAME=N"),
    "zero dim": (["--scratchpad", "1MiB", "--dim", "batch=0"], "is not NAME=N"),
    "unknown dim": (["--scratchpad", "1MiB", "--dim", "batch=1"], "no such dynamic dimension"),
    "unknown option": (["--scratchpad", "1MiB", "--frobnicate"], "No such option"),
    "output is a directory": (["--scratchpad", "1MiB", "-o", "FOLDER"], "it is a directory"),
    "output in no folder": (["--scratchpad", "1MiB", "-o", "FOLDER/none/p.json"], "there is no folder"),
    "output where nothing can be written": (["--scratchpad", "1MiB", "-o", "/proc/p.json"], "cannot write /proc/p.json"),
    "plot of unknown kind": (["--scratchpad", "1MiB", "--plot", "FOLDER/map.bmp"], "use .png, .svg or .pdf"),
    "plot without suffix": (["--scratchpad", "1MiB", "--plot", "FOLDER/map"], "a file without suffix"),
    "two sizes": (["--scratchpad", "1MiB", "--scratchpad", "2MiB"], "--scratchpad is given twice; leave one of the two out"),
    "two names": (["--scratchpad", "1MiB", "-o", "FOLDER/a.json", "--output", "FOLDER/b.json"], "--output is given twice"),
    "yes and no": (["--scratchpad", "1MiB", "--weights", "--no-weights"], "--weights/--no-weights is given twice"),
    "digits of another script": (["--scratchpad", "1MiB", "--jobs", "٣"], "--jobs '٣': write a number with the digits 0 to 9"),
    "seconds in another script": (["--scratchpad", "1MiB", "--time-limit", "٣"], "--time-limit '٣': write a number"),
    "a number with a line in it": (["--scratchpad", "1MiB", "--state-limit", "1_0"], "--state-limit '1_0': write a number"),
    "thousands of digits": (["--scratchpad", "1MiB", "--state-limit", "9" * 5000], "'--state-limit'"),
    "a size of thousands of digits": (["--scratchpad", "9" * 5000 + "B"], "of 5,001 characters is not a number with a unit"),
    "one file for two": (["--scratchpad", "1MiB", "-o", "FOLDER/a.png", "--plot", "FOLDER/a.png"], "give them different files"),
}  # fmt: skip


@pytest.mark.parametrize("kind", ARGUMENTS_REFUSED)
def test_arguments(run, tiny: Path, tmp_path: Path, kind: str) -> None:
    arguments, complaint = ARGUMENTS_REFUSED[kind]
    outcome = run("compile", tiny, *(a.replace("FOLDER", str(tmp_path)) for a in arguments))
    assert outcome.code == 2
    assert complaint in outcome.err
    assert outcome.err.count("\n") == 1
    assert [p.name for p in tmp_path.iterdir()] == ["tiny.onnx"]


SPECS_REFUSED = {
    "not a mapping": ("[1, 2]", "is a list, not a mapping"),
    "not YAML": ("a: [", "not a YAML file"),
    "wrong key": ("title: x\nscratchpad:\n  capcity: {value: 1 KiB, confirmed: yes, source: s}", "unknown key|missing"),
    "alignment 3": (
        "title: x\nscratchpad:\n  capacity: {value: 1 KiB, confirmed: yes, source: s}\n  alignment: {value: 3 B, confirmed: yes, source: s}",
        "not a power of two",
    ),
    "tags": ("!!python/object/apply:os.system [true]", "not a YAML file"),
    "a bomb": ("a: &a [x]\nb: &b [*a, *a]\nc: [*b, *b]", "alias *a"),
    "binary": ("\x00\x01", "not a YAML file"),
}


@pytest.mark.parametrize("kind", SPECS_REFUSED)
def test_specs(run, tiny: Path, tmp_path: Path, kind: str) -> None:
    text, complaint = SPECS_REFUSED[kind]
    path = tmp_path / "spec.yaml"
    path.write_text(text)
    outcome = run("compile", tiny, "--hw", path)
    assert outcome.code == 2
    assert any(c in outcome.err for c in complaint.split("|"))
    assert outcome.err.count("\n") == 1


@pytest.mark.parametrize(
    "content", [b"", b"{", b"[]", b"null", b"{}", b'{"schema_version": 99}', b"\xff\xfe", b"[" * 5000]
)
def test_plans(run, tiny: Path, tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "plan.json"
    path.write_bytes(content)
    outcome = run("verify", path, tiny, "--scratchpad", "1KiB")
    assert outcome.code == 2
    assert outcome.err.startswith(f"cosma: error: {path}")
    assert outcome.err.count("\n") == 1


def test_plan_for_another_model_is_rejected(run, tiny: Path, tmp_path: Path) -> None:
    plan = tmp_path / "plan.json"
    assert run("compile", MODELS / "tiny_chain.onnx", "--scratchpad", "1MiB", "-o", plan).code == 0
    outcome = run("verify", plan, tiny, "--scratchpad", "1MiB")
    assert outcome.code == 4
    assert "is for another model" in outcome.err


def test_truncated_at_any_offset(run, tmp_path: Path) -> None:
    """A prefix of a protobuf is either no protobuf or another model; both get a clean answer."""
    content = (MODELS / "tiny_branches.onnx").read_bytes()
    rng = random.Random(0)
    for offset in sorted({rng.randrange(len(content)) for _ in range(80)}):
        path = raw(content[:offset])(tmp_path)
        outcome = run("compile", path, "--scratchpad", "64MiB")
        assert outcome.code in (0, 2, 3)
        if outcome.code == 2:
            assert outcome.err.startswith("cosma: error:")
            assert outcome.err.count("\n") == 1


def test_zero_size_tensors_are_fine(run, tmp_path: Path) -> None:
    path = save(tmp_path, model(RELU, [value("x", (0, 3))], [value("y", (0, 3))]))
    result = run("compile", path, "--scratchpad", "1B", "--json").json
    assert (result["status"], result["total_bytes"], result["working_set_bytes"]) == ("optimal", 0, 0)


def test_single_operator(run, tmp_path: Path) -> None:
    path = save(tmp_path, model(RELU))
    result = run("compile", path, "--scratchpad", "64B", "--json").json
    assert (result["status"], result["compulsory_bytes"], result["working_set_bytes"]) == ("optimal", 64, 64)
    assert run("compile", path, "--scratchpad", "63B", "--modes", "paper").code == 3


@pytest.fixture(scope="module")
def rows(tmp_path_factory) -> list[dict]:
    """Two rows of compare and two of whatif."""
    line = {
        "model": "m.onnx", "dtype": None, "fusion": "none", "weights": False, "modes": "tile", "alignment_bytes": 1,
        "solver": "auto", "status": "optimal", "compulsory_bytes": 64, "gap": 0.0, "time_limit_s": 1.0, "state_limit": 1,
        "memory_limit_bytes": 1, "problem": "p", "version": "0", "why": "",
    }  # fmt: skip
    alone = {"dims": "", "hardware": "any", "instead": "", "spec": "s", "working_set_bytes": 64}
    alone |= {"smallest_capacity_bytes": 64}
    unknown = dict.fromkeys(
        set(columns(Swept)) - {*line, *alone, "capacity_bytes", "non_compulsory_bytes", "bound_bytes"}
    )
    found = [{"capacity_bytes": 64 + 8 * i, "non_compulsory_bytes": 8 - i, "bound_bytes": 8 - i} for i in (0, 8)]
    return [
        *(asdict(Compared(**line, **each, budget="M_R", seconds=0.1)) for each in found),
        *(asdict(Swept(**line, **alone, **unknown, **each)) for each in found),
    ]


def test_values_in_rows_never_crash(run, tmp_path: Path, rows: list[dict]) -> None:
    path, rng = tmp_path / "rows.jsonl", random.Random(3)
    junk = [None, -1, 2**80, 10**400, "x", "", True, 1.5, float("nan"), float("inf"), 0, "\u202e\n\x1b[1m", "$x^2$",
            "=1", [1], {}, "\udcff", "9" * 5000]  # fmt: skip
    codes = []
    for number in range(120):
        two = [dict(row) for row in (rows[:2] if number % 2 else rows[2:])]
        for _ in range(rng.randint(1, 2)):
            key = rng.choice(list(two[0]))
            for row in two[: rng.randint(1, 2)]:
                row[key] = junk[rng.randrange(len(junk))]
        path.write_text("".join(json.dumps(row) + "\n" for row in two))
        suffix = rng.choice([".md", ".csv", ".html", ".svg" if number % 5 == 0 else ".md"])
        outcome = run("report", path, "-o", tmp_path / f"out{suffix}")
        assert outcome.code in (0, 2), (two, outcome)
        assert outcome.code == 0 or outcome.err.count("\n") == 1
        codes.append(outcome.code)
    assert min(codes.count(0), codes.count(2)) > 5


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"[" * 100_000 + b"\n",
        b"{}\n",
        b"\xff\xfe\n",
        b'{"model": ' + b"9" * 5000 + b"}\n",
        b"model,\n" + b"[" * 90_000 + b"\n",
    ],
)
@pytest.mark.parametrize("suffix", [".csv", ".jsonl"])
def test_rows(run, tiny: Path, tmp_path: Path, content: bytes, suffix: str) -> None:
    path = tmp_path / f"rows{suffix}"
    path.write_bytes(content)
    for command in (["report", path], ["compare", tiny, "--solvers", "auto", "--budgets", "96B", "-o", path]):
        outcome = run(*command)
        assert (outcome.code, outcome.err.count("\n")) == ((2, 1) if content or command[0] == "report" else (0, 0))
        assert path.read_bytes() == content or not content


def test_unreadable_plan_fields_never_crash(run, tiny: Path, tmp_path: Path) -> None:
    plan = tmp_path / "plan.json"
    run("compile", tiny, "--scratchpad", "96B", "-o", plan)
    document = json.loads(plan.read_text())
    rng = random.Random(1)
    junk = [None, -1, 2**80, "x", [], {}, 1.5, True, "input", 10**6]
    for _ in range(150):
        copy = json.loads(json.dumps(document))
        spot: object = copy
        while isinstance(spot, dict | list) and spot:
            key = rng.choice(list(spot)) if isinstance(spot, dict) else rng.randrange(len(spot))
            if not isinstance(spot[key], dict | list) or rng.random() < 0.1:
                spot[key] = rng.choice(junk)
                break
            spot = spot[key]
        plan.write_text(json.dumps(copy))
        assert run("verify", plan, tiny, "--scratchpad", "96B").code in (0, 2, 4)
