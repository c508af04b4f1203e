"""Open dimensions: given by name or by place, computed from others, contradicted, and what is said of those left open."""

from pathlib import Path

import onnx
import pytest
from onnx import helper

from cosma.errors import InputError
from cosma.frontend.load import load
from tests.conftest import model, node, value
from tests.frontend.test_reading import CASES, read, sizes


def test_a_negative_size_is_open() -> None:
    with pytest.raises(InputError, match=r"dynamic dimensions: h, x:0; set them, e.g. --dim h=N --dim x:0=1$"):
        load(CASES / "negative_dim.onnx")
    # 2 x 3 x 4 x 8 floats in, as many out of Relu, 2 x 3 floats out.
    graph = load(CASES / "negative_dim.onnx", {"x:0": 2, "h": 4}).graph
    assert list(sizes(graph).values()) == [768, 768, 24]


def test_sizes_that_depend_on_data_are_set_where_they_are_made_or_returned(tmp_path: Path) -> None:
    nodes = [node("NonZero", "x", "i", "nz"), node("Cast", "i", "f", to=1), node("Concat", "f f", "y", axis=1)]
    proto = model(nodes, outputs=[value("y", (2, None)), value("f", None)])
    with pytest.raises(
        InputError, match=r"axis 1 of 'i', which operator 'nz' \(NonZero\) makes, .*: --dim i:1=N, or --dim f:1=N"
    ):
        read(tmp_path, proto)
    for place in ("i:1", "f:1"):
        graph = read(tmp_path, proto, dims={place: 3}).graph
        assert sizes(graph) == {"x": 32, "i": 2 * 3 * 8, "f": 2 * 3 * 4, "y": 2 * 6 * 4}
    with pytest.raises(InputError, match=r"axis 1 of 'y' was given size 7, but the operators make it 6|\(6\) vs \(7\)"):
        read(tmp_path, proto, dims={"i:1": 3, "y:1": 7})
    with pytest.raises(
        InputError, match=r"axis 1 of 'f' is said to have size 4, but is as long as i:1, said to have 3"
    ):
        read(tmp_path, proto, dims={"i:1": 3, "f:1": 4})


def symbolic(*extra: onnx.ValueInfoProto) -> onnx.ModelProto:
    nodes = [helper.make_node("Twice", ["x"], ["a"], domain="acme"), node("Relu", "a", "y")]
    return model(
        nodes, [value("x", ("seq", 8))], [value("y", ("2*seq", 8))], value_info=[value("a", ("2*seq", 8)), *extra],
        imports=[helper.make_opsetid("acme", 1)],
    )  # fmt: skip


def test_sizes_that_follow_from_others_are_computed(tmp_path: Path) -> None:
    assert sizes(read(tmp_path, symbolic(), dims={"seq": 3}).graph) == {"x": 96, "a": 192, "y": 192}
    with pytest.raises(InputError, match=r"--dim 2\*seq=7 and 2\*seq = 6, from the other sizes: these contradict"):
        read(tmp_path, symbolic(), dims={"seq": 3, "2*seq": 7})
    with pytest.raises(InputError, match=r"axis 0 of 'a' was given size 7|--dim a:0=7 and 2\*seq = 6"):
        read(tmp_path, symbolic(), dims={"seq": 3, "a:0": 7})


@pytest.mark.parametrize(
    ("name", "size"),
    [("past + seq", 13), ("floor(seq / 2) + 1", 2), ("seq - 1", 2), ("max(seq, past)", 10), ("(past // seq) % 2", 1)],
)
def test_arithmetic_of_dimensions(tmp_path: Path, name: str, size: int) -> None:
    nodes = [helper.make_node("Twice", ["x", "p"], ["y"], domain="acme")]
    proto = model(
        nodes, [value("x", ("seq", 8)), value("p", ("past", 8))], [value("y", (name, 8))],
        imports=[helper.make_opsetid("acme", 1)],
    )  # fmt: skip
    assert sizes(read(tmp_path, proto, dims={"seq": 3, "past": 10}).graph)["y"] == size * 32


def test_arithmetic_that_gives_no_whole_number(tmp_path: Path) -> None:
    nodes = [helper.make_node("Half", ["x"], ["y"], domain="acme")]
    proto = model(nodes, [value("x", ("seq", 8))], [value("y", ("seq/2", 8))], imports=[helper.make_opsetid("acme", 1)])
    with pytest.raises(InputError, match=r"dimension 'seq/2' would be 3/2 with --dim seq=3"):
        read(tmp_path, proto, dims={"seq": 3})
