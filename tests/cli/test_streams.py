"""Standard streams that are closed, full or know few characters; inputs and outputs that are devices or pipes."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import MODELS, model, node, save, value

TINY = str(MODELS / "tiny_chain.onnx")


def shell(command: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """A command line of a POSIX shell; $COSMA is the command."""
    variables = os.environ | {"COSMA": f"{sys.executable} -m cosma", "TINY": TINY} | environment
    return subprocess.run(["sh", "-c", command], capture_output=True, text=True, timeout=60, check=False, env=variables)


@pytest.mark.parametrize(
    ("command", "code", "said"),
    [
        ("$COSMA specs >&-", 0, ""),
        ("$COSMA specs >/dev/full", 2, "cosma: error: cannot write standard output: No space left on device; send it elsewhere\n"),
        ("$COSMA compile $TINY --scratchpad 64KiB --json >/dev/full", 2, "cosma: error: cannot write standard output: "),
        ("$COSMA compile nowhere.onnx --scratchpad 64KiB 2>&-", 2, ""),
        ("$COSMA compile nowhere.onnx --scratchpad 64KiB 2>/dev/full", 2, ""),
        ("{ $COSMA specs; echo $? >&2; } | true", 0, "0\n"),
        ("{ $COSMA specs --json; echo $? >&2; } | true", 0, "0\n"),
        ("{ $COSMA inspect nowhere.onnx 2>&1; echo $? >&2; } | true", 0, "2\n"),
        ("$COSMA inspect nowhere.onnx <&- >&- 2>&-", 2, ""),
    ],
)  # fmt: skip
def test_streams_that_take_nothing(command: str, code: int, said: str) -> None:
    done = shell(command)
    assert done.returncode == code, done
    assert done.stderr.startswith(said)
    assert done.stderr.count("\n") == bool(said)


def test_streams_that_know_few_characters(tmp_path: Path) -> None:
    model = tmp_path / "mödel.onnx"
    model.write_bytes(Path(TINY).read_bytes())
    for how in ({"PYTHONIOENCODING": "ascii"}, {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}):
        for command in ("compile", "inspect"):
            done = shell(f'$COSMA {command} "$MODEL" --scratchpad 64KiB', MODEL=str(model), **how)
            assert (done.returncode, done.stderr) == (0, ""), done
            assert done.stdout.isascii()


@pytest.mark.parametrize(
    ("command", "complaint"),
    [
        ("$COSMA compile /dev/zero --scratchpad 64KiB", "it is a device, not a file"),
        ("mkfifo $F/m; $COSMA compile $F/m --scratchpad 64KiB", "nothing comes through this pipe"),
        ("mkfifo $F/m.yaml; $COSMA compile $TINY --hw $F/m.yaml", "nothing comes through this pipe"),
        ("ln -s /dev/zero $F/m.yaml; $COSMA compile $TINY --hw $F/m.yaml", "it is a device, not a file"),
        ("ln -s /dev/full $F/r.csv; $COSMA compare $TINY --budgets 8KiB -o $F/r.csv", "it is a device, not a file"),
        ("mkfifo $F/p.json; $COSMA verify $F/p.json $TINY", "nothing comes through this pipe"),
        ("mkfifo $F/r.csv; $COSMA report $F/r.csv", "holds no rows of"),
        ("mkfifo $F/p.json; $COSMA compile $TINY --scratchpad 64KiB -o $F/p.json", "nothing reads from this pipe"),
        ("$COSMA compile $TINY --scratchpad 64KiB -o /dev/full", "No space left on device"),
        (
            "$COSMA compile $TINY --scratchpad 64KiB -o $F/p.json >/dev/null; mkfifo $F/x.npz; "
            "$COSMA run $F/p.json $TINY --inputs $F/x.npz", "x.npz",
        ),
    ],
)  # fmt: skip
def test_devices_and_pipes_are_told(tmp_path: Path, command: str, complaint: str) -> None:
    done = shell(command, F=str(tmp_path))
    assert done.returncode == 2, done
    assert complaint in done.stderr
    assert done.stderr.count("\n") == 1


def test_pipes_with_a_reader_or_a_writer_work(tmp_path: Path) -> None:
    done = shell("$COSMA compile $TINY --scratchpad 64KiB -o /dev/stdout --json | grep -c schema_version")
    assert done.stdout.strip() == "1", done
    done = shell("$COSMA compile $TINY --scratchpad 64KiB -o /dev/null")
    assert done.returncode == 0
    done = shell("cat $TINY | $COSMA inspect /dev/stdin")
    assert done.returncode == 0, done


LONG = "9" * 5_000


@pytest.mark.parametrize(
    "flags",
    [
        "--scratchpad $LONG", "--scratchpad ${LONG}KiB", "--scratchpad 64KiB --time-limit $LONG", "--scratchpad ٣KiB",
        "--scratchpad 64KiB --state-limit $LONG", "--scratchpad 64KiB --dim x=$LONG", "--scratchpad 64KiB --dim x=٣",
        "--scratchpad 64KiB --jobs $LONG", "--scratchpad 64KiB --memory-limit $LONG", "--scratchpad 64KiB --memory-limit 1e${LONG}B",
    ],
)  # fmt: skip
def test_numbers_of_thousands_of_digits_and_other_digits(flags: str) -> None:
    done = shell(f"$COSMA compile $TINY {flags}", LONG=LONG)
    assert done.returncode == 2, done
    assert done.stderr.count("\n") == 1
    assert len(done.stderr) < 3_000


@pytest.mark.parametrize(
    "flags",
    [
        "--hw $LONG",
        "--scratchpad 1KiB:$LONG:x2",
        "--scratchpad 1KiB:2KiB:x$LONG",
        "--dim x=$LONG",
        "--set dram.bandwidth=$LONG",
        "--jobs $LONG",
    ],
)
def test_numbers_of_sweeps(flags: str) -> None:
    done = shell(f"$COSMA whatif $TINY --hw nvdla_small {flags}", LONG=LONG)
    assert done.returncode == 2, done
    assert done.stderr.count("\n") == 1


def test_more_dimensions_than_arrays_can_have(run, tmp_path: Path) -> None:
    """They can be planned: 8 elements are 32 bytes, whatever their shape. No array has more than 64."""
    shape = [1] * 64 + [8]
    path = save(
        tmp_path, model([node("Relu", "x", "a"), node("Tanh", "a", "y")], [value("x", shape)], [value("y", shape)])
    )
    assert run("compile", path, "--scratchpad", "64B", "--json").json["working_set_bytes"] == 64
    outcome = run("compile", path, "--scratchpad", "64B", "--check")
    assert (outcome.code, outcome.err.count("\n")) == (2, 1)
    assert "tensor 'x' has 65 dimensions; a run takes no more than 64" in outcome.err
