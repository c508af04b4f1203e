"""Weights in files of their own: what is read, from where, and what is said of the rest."""

import os
import re
import sys
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, numpy_helper

from cosma.errors import InputError
from cosma.frontend.external import attach
from cosma.frontend.load import load
from tests.conftest import model, node, save, value

DATA = np.arange(8, dtype=np.float32)
SHAPE = np.array([4, 2], np.int64)


def elsewhere(name: str, array: np.ndarray, **entries: object) -> TensorProto:
    """A tensor of an array's type and shape whose data lie in another file."""
    tensor = numpy_helper.from_array(array, name)
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    for key, text in entries.items():
        tensor.external_data.add(key=key, value=str(text))
    return tensor


def added(**entries: object) -> onnx.ModelProto:
    """y = x + w, eight floats each."""
    return model([node("Add", "x w", "y")], [value("x", (8,))], [value("y", (8,))], [elsewhere("w", DATA, **entries)])


def reshaped(**entries: object) -> onnx.ModelProto:
    """r = x in the shape that s says, [4, 2] if it can be read; nobody declares it."""
    nodes = [node("Reshape", "x s", "r"), node("Relu", "r", "y", "relu")]
    return model(nodes, outputs=[value("y", None)], initializers=[elsewhere("s", SHAPE, **entries)])


def attached(path: Path) -> tuple[bytes, str]:
    """What is read for the one weight of a model, and what is said if it cannot be."""
    proto = onnx.load(path, load_external_data=False)
    unread = attach(proto, path)
    (weight,) = proto.graph.initializer
    assert not weight.external_data
    assert weight.data_location == TensorProto.DEFAULT
    return weight.raw_data, str(next(iter(unread.values()), ""))


def runtime_reads(path: Path) -> bool:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    try:
        onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    except Exception:
        return False
    return True


def lay(root: Path, files: dict[str, bytes], links: dict[str, str]) -> None:
    for name, content in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(content)
    for name, target in links.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).symlink_to(target)


W = DATA.tobytes()


@pytest.mark.parametrize(
    ("named", "location", "files", "links", "reads"),
    [
        ("m/model", "w.bin", {"m/model": b"", "m/w.bin": W}, {}, True),
        ("m/model", "d/w.bin", {"m/model": b"", "m/d/w.bin": W}, {}, True),
        ("m/model", "w.bin", {"m/model": b"", "m/d/w.bin": W}, {"m/w.bin": "d/w.bin"}, True),
        # a download cache: both are links, into one folder
        ("s/r/model", "w.bin", {"b/A": b"", "b/B": W}, {"s/r/model": "../../b/A", "s/r/w.bin": "../../b/B"}, True),
        ("s/r/o/model", "w.bin", {"b/A": b"", "b/B": W}, {"s/r/o/model": "../../../b/A", "s/r/o/w.bin": "../../../b/B"}, True),
        ("m/model", "w.bin", {"b/A": b"", "m/w.bin": W}, {"m/model": "../b/A"}, True),
        # the folder itself is reached through a link
        ("l/model", "w.bin", {"m/model": b"", "m/w.bin": W}, {"l": "m"}, True),
        ("m/model", "w.bin", {"m/model": b"", "b/B": W}, {"m/w.bin": "../b/B"}, False),
        ("m/model", "d/w.bin", {"m/model": b"", "b/w.bin": W}, {"m/d": "../b"}, False),
        ("s/model", "w.bin", {"b/A": b"", "c/B": W}, {"s/model": "../b/A", "s/w.bin": "../c/B"}, False),
        ("m/model", "../w.bin", {"m/model": b"", "w.bin": W}, {}, False),
        ("m/model", "d/../../w.bin", {"m/model": b"", "w.bin": W, "m/d/z": b""}, {}, False),
        ("m/model", "m2/w.bin", {"m/model": b"", "m2/w.bin": W}, {"m/m2": "../m2"}, False),
        ("m/model", "", {"m/model": b""}, {}, False),
        ("m/model", ".", {"m/model": b""}, {}, False),
        ("m/model", "loop", {"m/model": b""}, {"m/loop": "loop"}, False),
        ("m/model", "d", {"m/model": b"", "m/d/w.bin": W}, {}, False),
    ],
)  # fmt: skip
def test_files_that_are_read_are_those_that_onnx_runtime_reads(
    tmp_path: Path, named: str, location: str, files: dict[str, bytes], links: dict[str, str], reads: bool
) -> None:
    proto = added(location=location).SerializeToString()
    lay(tmp_path, {name: content or proto for name, content in files.items()}, links)
    path = tmp_path / named
    data, said = attached(path)
    assert (data == W, not said) == (reads, reads), said
    assert runtime_reads(path) == reads


@pytest.mark.parametrize(
    "location", ["{here}/w.bin", "../m/w.bin", "d/../w.bin", "w.bin\0", "/proc/self/environ", "/etc/passwd"]
)
def test_only_names_within_the_folder_are_looked_at(tmp_path: Path, location: str) -> None:
    lay(tmp_path, {"m/w.bin": W, "m/d/z": b""}, {})
    location = location.format(here=tmp_path / "m")
    path = save(tmp_path / "m", added(location=location))
    data, said = attached(path)
    assert data == b""
    assert said.endswith("which is no path within the model's folder; nothing else is read: export the model again")


def in_branch(s: TensorProto) -> onnx.ModelProto:
    """y = x in the shape s, a constant of both branches of an If."""
    nodes = [node("Constant", "", "t", value=s), node("Reshape", "x t", "b")]
    branch = onnx.helper.make_graph(nodes, "either", [], [value("b", None)])
    choice = node("If", "c", "y", "choice", then_branch=branch, else_branch=branch)
    return model([choice], ["x", value("c", (), TensorProto.BOOL)], [value("y", None)])


def in_function(s: TensorProto) -> onnx.ModelProto:
    """y = x in the shape s, a constant of a function."""
    nodes = [node("Constant", "", "t", value=s), node("Reshape", "a t", "b")]
    function = onnx.helper.make_function("own", "f", ["a"], ["b"], nodes, [onnx.helper.make_opsetid("", 17)])
    call = onnx.helper.make_node("f", ["x"], ["y"], domain="own")
    imports = [onnx.helper.make_opsetid("own", 1)]
    return model([call], outputs=[value("y", None)], imports=imports, functions=[function])


def in_constant(s: TensorProto) -> onnx.ModelProto:
    return model([node("Constant", "", "s", value=s), node("Reshape", "x s", "y")], outputs=[value("y", None)])


def test_nothing_outside_the_folder_is_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not by the libraries either, which take names from the working directory: in operators, branches and functions."""
    secret = tmp_path / "secret.bin"
    secret.write_bytes(SHAPE.tobytes())
    (tmp_path / "m").mkdir()
    monkeypatch.chdir(tmp_path)  # 'secret.bin' is there, seen from here
    opened: list[str] = []
    sys.addaudithook(lambda event, args: opened.append(str(args[0])) if event == "open" else None)
    for location in ("secret.bin", "../secret.bin", str(secret)):
        s = elsewhere("s", SHAPE, location=location)
        for proto in (reshaped(location=location), in_constant(s), in_branch(s), in_function(s)):
            path = save(tmp_path / "m", proto)
            with pytest.raises(
                InputError, match=r"the data of tensor '(s|t|t__1)' lie in '.*secret\.bin', which is no"
            ):
                load(path)
    assert not [name for name in opened if name.endswith("secret.bin") and not name.endswith("m/secret.bin")]


@pytest.mark.parametrize(
    ("entries", "why"),
    [
        ({"offset": 4}, "ends at byte 32, before byte 36: it is cut off or belongs to another model; download it again"),
        ({"offset": 10**18}, "ends at byte 32, before byte 1000000000000000032"),
        ({"offset": "9" * 30}, "at offset '999999999999999999999999999999', which is no count of bytes"),
        ({"offset": -4}, "at offset '-4', which is no count of bytes; export the model again"),
        ({"offset": "4x"}, "at offset '4x', which is no count of bytes"),
        ({"offset": "٤"}, "at offset '٤', which is no count of bytes"),
        ({"length": "1e3"}, "at length '1e3', which is no count of bytes"),
        ({"length": 16}, r"of which 16 bytes for shape \[8\], which takes 32"),
        ({"length": 64}, r"of which 64 bytes for shape \[8\], which takes 32"),
        ({"location": "v.bin"}, "'v.bin', which is not there; put that file beside the model"),
        ({"location": "w.bin/v"}, "'w.bin/v', which is not there"),
        ({"location": "n" * 300}, "which cannot be read"),
    ],
)  # fmt: skip
def test_why_data_were_not_read(tmp_path: Path, entries: dict[str, object], why: str) -> None:
    (tmp_path / "w.bin").write_bytes(W)
    path = save(tmp_path, added(**{"location": "w.bin"} | entries))
    data, said = attached(path)
    assert data == b""
    assert re.search(f"^the data of tensor 'w' lie in .*{why}", said), said
    assert "\n" not in said
    assert not runtime_reads(path)


def test_entries_twice(tmp_path: Path) -> None:
    (tmp_path / "w.bin").write_bytes(W * 2)
    proto = added(location="w.bin", offset=0)
    proto.graph.initializer[0].external_data.add(key="offset", value="32")
    assert "say offset twice" in attached(save(tmp_path, proto))[1]


@pytest.mark.parametrize(
    "entries", [{"offset": 32}, {"offset": 32, "length": 32}, {"offset": 32, "checksum": "no", "length": 0}]
)
def test_a_slice_is_read(tmp_path: Path, entries: dict[str, object]) -> None:
    """Also of a file of many gigabytes: it is sparse, and reading it all would not fit the memory."""
    path = save(tmp_path, added(location="w.bin", **entries))
    with (tmp_path / "w.bin").open("wb") as file:
        file.write(b"\xff" * 32 + W)
        file.truncate(2**40)
    assert attached(path) == (W, "")
    assert runtime_reads(path)


def test_devices_and_pipes_are_not_read(tmp_path: Path) -> None:
    path = save(tmp_path, added(location="w.bin"))
    os.mkfifo(tmp_path / "w.bin")
    assert attached(path)[1].endswith("which is no regular file; put the file itself beside the model")


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
def test_files_without_permission(tmp_path: Path) -> None:
    path = save(tmp_path, added(location="w.bin"))
    (tmp_path / "w.bin").write_bytes(W)
    (tmp_path / "w.bin").chmod(0)
    assert attached(path)[1].endswith("which cannot be read (Permission denied); make it readable")


def test_elements_of_less_than_a_byte(tmp_path: Path) -> None:
    """Five elements of four bits take three bytes."""
    (tmp_path / "w.bin").write_bytes(bytes(range(10)))
    tensor = TensorProto(name="w", data_type=TensorProto.INT4, dims=[5], data_location=TensorProto.EXTERNAL)
    tensor.external_data.add(key="location", value="w.bin")
    tensor.external_data.add(key="offset", value="2")
    path = save(tmp_path, model([node("Cast", "w", "y", to=1)], [], [value("y", (5,))], [tensor]))
    assert attached(path) == (bytes([2, 3, 4]), "")


@pytest.mark.parametrize(
    ("entries", "why"),
    [
        ({"location": "v.bin"}, "'v.bin', which is not there; put that file beside the model"),
        ({"location": "s.bin", "offset": 8}, "'s.bin', which ends at byte 16, before byte 24"),
        ({"location": "../s.bin"}, "no path within the model's folder"),
    ],
)
def test_shapes_that_need_what_cannot_be_read(tmp_path: Path, entries: dict[str, object], why: str) -> None:
    (tmp_path / "s.bin").write_bytes(SHAPE.tobytes())
    proto = reshaped(**entries)
    path = save(tmp_path, proto)
    with pytest.raises(InputError, match=rf"the shape of 'r' is open: the data of tensor 's' lie in .*{why}"):
        load(path)
    proto.graph.value_info.append(value("r", (4, 2)))  # said elsewhere
    proto.graph.output[0].CopyFrom(value("y", (4, 2)))
    assert load(save(tmp_path, proto)).graph.tensors[1].shape == (4, 2)


def test_shapes_computed_from_what_cannot_be_read(tmp_path: Path) -> None:
    nodes = [node("Add", "s s", "t"), node("Reshape", "x t", "r"), node("Relu", "r", "y")]
    path = save(tmp_path, model(nodes, outputs=[value("y", None)], initializers=[elsewhere("s", SHAPE, location="v")]))
    with pytest.raises(
        InputError, match="the shape of 'r' is open: the data of tensor 's' lie in 'v', which is not there"
    ):
        load(path)


def test_an_open_dimension_is_not_blamed_on_a_missing_bias(tmp_path: Path) -> None:
    proto = added(location="v.bin")
    for info in (proto.graph.input[0], proto.graph.output[0]):
        info.CopyFrom(value(info.name, ("n", 8)))
    path = save(tmp_path, proto)
    with pytest.raises(InputError, match="dynamic dimensions: n; set them"):
        load(path)
    assert load(path, {"n": 2}).graph.tensors[0].size_bytes == 64


def test_a_run_reads_through_the_links_of_a_cache(tmp_path: Path, run) -> None:
    lay(tmp_path, {"b/A": added(location="w.bin").SerializeToString(), "b/B": W},
        {"s/model.onnx": "../b/A", "s/w.bin": "../b/B"})  # fmt: skip
    outcome = run("compile", tmp_path / "s" / "model.onnx", "--scratchpad", "96B", "--check")
    assert outcome.code == 0
    assert "at random" not in outcome.out


def test_a_run_says_which_file_is_not_there(tmp_path: Path, run) -> None:
    path = save(tmp_path, added(location="w.bin"))
    outcome = run("compile", path, "--scratchpad", "96B", "--check")
    assert outcome.code == 0
    assert "1 without data, drawn at random: 'w.bin' not there" in " ".join(outcome.out.split())


@pytest.mark.parametrize(
    ("entries", "why"),
    [
        ({"location": "w.bin", "offset": 4}, "'w.bin', which ends at byte 32, before byte 36"),
        ({"location": "link"}, "a link out of the model's folder, where nothing is read; put the file itself there"),
    ],
)
def test_a_run_draws_nothing_for_a_file_that_is_there(
    tmp_path: Path, run, entries: dict[str, object], why: str
) -> None:
    lay(tmp_path, {"b": W, "m/w.bin": W}, {"m/link": "../b"})
    path = save(tmp_path / "m", added(**entries))
    assert run("compile", path, "--scratchpad", "96B").code == 0
    outcome = run("compile", path, "--scratchpad", "96B", "--check")
    assert (outcome.code, outcome.err.count("\n")) == (2, 1)
    assert (
        f"the data of tensor 'w' lie in {'' if why[0] == chr(39) else repr(entries['location']) + ', '}{why}"
        in outcome.err
    )
