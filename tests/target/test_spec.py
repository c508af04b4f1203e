"""Spec files as people write them: keys twice, commas, aliases, typos, arguments swapped, and the published schema."""

import json
import re
from pathlib import Path

import jsonschema
import pytest
import yaml

from cosma.errors import InputError
from cosma.kinds import kind_of
from cosma.target.hardware import _parse, load_hardware, spec_names
from cosma.target.spec import SECTIONS, json_schema, keys, read_yaml
from tests.conftest import MODELS, ROOT

HEAD = "title: My accelerator\n"
PAD = "scratchpad:\n  capacity: {value: 1 MiB, confirmed: yes, source: data sheet}\n"


def spec(folder: Path, text: str) -> Path:
    path = folder / "spec.yaml"
    path.write_text(text)
    return path


def test_the_readmes_example_is_accepted_verbatim(tmp_path: Path) -> None:
    [block] = re.findall(r"```yaml\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    found = load_hardware(str(spec(tmp_path, block)))
    assert (found.capacity_bytes, found.alignment_bytes, found.macs_per_s) == (2**20, 64, 2e12)
    assert dict(found.figures)["scratchpad.capacity"].source == "data sheet, page 3"


def test_only_the_source_is_put_together_again(tmp_path: Path) -> None:
    text = HEAD + "scratchpad:\n  capacity: {value: 1 MiB, source: a, b, c, confirmed: yes}\n"
    assert dict(load_hardware(str(spec(tmp_path, text))).figures)["scratchpad.capacity"].source == "a, b, c"
    for wrong in (
        "{value: 1 MiB, b, source: a, confirmed: yes}",
        "{value: 1 MiB, source: a, confirmd, confirmed: yes}",
    ):
        with pytest.raises(InputError, match="unknown key"):
            load_hardware(str(spec(tmp_path, HEAD + f"scratchpad:\n  capacity: {wrong}\n")))


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        (HEAD + HEAD + PAD, "line 2: key 'title' is given twice; leave one of the two out"),
        (HEAD + PAD + PAD, "line 4: key 'scratchpad' is given twice"),
        (HEAD + PAD + "  capacity: {value: 2 MiB, confirmed: yes, source: x}\n", "line 4: key 'capacity' is given twice"),
        (HEAD + "scratchpad:\n  capacity: {value: 1 MiB, value: 2 MiB, confirmed: yes, source: x}\n", "key 'value' is given twice"),
        (HEAD + "scratchpad:\n  capacity: &a {value: 1 MiB, confirmed: yes, source: x}\n  alignment: *a\n", r"line 4: alias \*a"),
        (HEAD + "scratchpad:\n  capacty: {value: 1 MiB, confirmed: yes, source: x}\n", "unknown key 'scratchpad.capacty'; did you mean 'capacity'"),
        (HEAD + PAD + "dram:\n  bandwidth: {value: 8 Gb/s, confirmed: yes, source: x}\n", "small b, which could be bits or bytes; write GB/s or Gbit/s"),
        (HEAD + PAD + "dram:\n  energy: {value: 10 pJ/b, confirmed: yes, source: x}\n", "write pJ/B or pJ/bit"),
        (HEAD + PAD + f"  instances: {{value: {'9' * 5000}, confirmed: yes, source: x}}\n", "is not a count of 1 or more"),
        (HEAD + PAD + "  instances: {value: 010, confirmed: yes, source: x}\n", "'010' is not a count of 1 or more"),
        (HEAD + PAD + "  instances: {value: 0x10, confirmed: yes, source: x}\n", "'0x10' is not a count of 1 or more"),
        (HEAD + PAD + "  instances: {value: 1:30, confirmed: yes, source: x}\n", "'1:30' is not a count of 1 or more"),
        (HEAD + "scratchpad:\n  capacity: {<<: {value: 8 MiB}, value: 1 MiB, confirmed: yes, source: x}\n", "unknown key 'scratchpad.capacity.<<'"),
        (HEAD + PAD + "  ? [alignment]\n  : x\n", "line 4: a key is one word"),
        (HEAD + PAD + "  alignment:\n", "key 'scratchpad.alignment' is empty; leave it out"),
        (HEAD + PAD + "  bandwidth: {value: 1 GB/s, confirmed: yes, source: x}\n", "'scratchpad.bandwidth'; it belongs under 'dram'; known keys here: capacity"),
        (HEAD + PAD + "dram:\n", "'dram' must be a mapping of bandwidth, energy, burst, not None"),
        (HEAD + PAD + "  alignment: {value: , confirmed: yes, source: x}\n", "a figure is one value, such as 512 KiB, not None"),
        (HEAD + PAD + "  alignment: {value: [64 B], confirmed: yes, source: x}\n", "a figure is one value, such as 512 KiB, not"),
        (HEAD + PAD + "  alignment: {value: 64 B, confirmed: yes, source: ' '}\n", "'scratchpad.alignment.source'"),
        (HEAD + PAD + "dram: !!python/name:os.system x\n", "line 4: tag .* has no place in a spec"),
        ("title: !!binary aGVsbG8=\n" + PAD, "line 1: tag .* has no place in a spec"),
        (HEAD + PAD + "#" * 100_000, "100,097 B are too many for a hardware spec"),
        (
            HEAD + PAD + "compute:\n  rate: {value: 1e200 MAC/cycle, confirmed: yes, source: x}\n  clock: {value: 1e200 Hz, confirmed: yes, source: x}\n",
            "compute.rate x compute.clock: inf MAC/s is no figure of a machine",
        ),
        (HEAD + PAD + "  instances: {value: ٣, confirmed: yes, source: x}\n", "is not a count of 1 or more"),
        (HEAD + PAD + f"dram:\n  bandwidth: {{value: {'9' * 5000} GB/s, confirmed: yes, source: x}}\n", "is not a number with a unit"),
    ],
)  # fmt: skip
def test_bad_specs(tmp_path: Path, text: str, complaint: str) -> None:
    with pytest.raises(InputError, match=complaint) as error:
        load_hardware(str(spec(tmp_path, text)))
    assert len(str(error.value)) < 1_000


def test_text_is_read_as_it_stands(tmp_path: Path) -> None:
    """Where YAML would read 2017 as a number, 010 as 8, and yes as true."""
    text = "title: 1:30\nscratchpad:\n  capacity: {value: 1 MiB, confirmed: yes, source: 2017, 010, yes}\n"
    found = load_hardware(str(spec(tmp_path, text)))
    assert found.title == "1:30"
    assert [(f.value, f.source, f.confirmed) for _, f in found.figures] == [("1 MiB", "2017, 010, yes", "yes")]


def test_an_alias_bomb_is_refused_at_its_first_alias() -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]" for i in range(1, 40)]
    with pytest.raises(InputError, match=r"line 2: alias \*a0: write the figure out instead"):
        read_yaml("\n".join(lines).encode())


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ("dram.bandwith=8GB/s", "unknown key 'dram.bandwith'; did you mean 'bandwidth'?"),
        ("dram.band-width=8GB/s", "unknown key 'dram.band-width'; did you mean 'bandwidth'?"),
        ("dram.=8GB/s", "unknown key 'dram.'"),
        ("drams.bandwidth=8GB/s", "unknown key 'drams'; did you mean 'dram'?"),
        ("dram.clock=8MHz", "unknown key 'dram.clock'; it belongs under 'compute'"),
        ("bandwidth=8GB/s", "write e.g. --set dram.bandwidth=16GB/s ('cosma specs --keys' lists keys)"),
        ("dram.bandwidth=8GB/s dram.energy=3pJ/B", "is not KEY=VALUE"),
    ],
)
def test_sweeps_tell_typos(run, setting: str, said: str) -> None:
    outcome = run("whatif", MODELS / "tiny_chain.onnx", "--hw", "nvdla_small", "--set", setting)
    assert (outcome.code, outcome.err.count("\n")) == (2, 1)
    assert outcome.err.startswith(f"cosma: error: --set {setting!r}")
    assert said in outcome.err


def test_a_figure_that_was_set_is_not_laid_to_the_file(run) -> None:
    outcome = run("whatif", MODELS / "tiny_chain.onnx", "--hw", "nvdla_small", "--set", "dram.bandwidth=8")
    assert outcome.code == 2
    assert "nvdla_small.yaml with dram.bandwidth=8: dram.bandwidth: '8' has no unit" in outcome.err


def test_a_dimension_given_twice(run) -> None:
    model = MODELS / "tiny_chain.onnx"
    for command in ("compile", "inspect", "compare"):
        pad = [] if command == "compare" else ["--scratchpad", "64KiB"]
        outcome = run(command, model, *pad, "--dim", "n=2", "--dim", "n=3")
        assert outcome.code == 2
        assert "--dim n=2 and --dim n=3: two sizes for one dimension; give one" in outcome.err


def test_arguments_that_are_swapped(run, tmp_path: Path) -> None:
    model, hw = MODELS / "tiny_chain.onnx", ROOT / "hw_specs" / "nvdla_large.yaml"
    plan, rows = tmp_path / "plan.json", tmp_path / "rows.csv"
    assert run("compile", model, "--scratchpad", "64KiB", "-o", plan).code == 0
    assert run("compare", model, "--budgets", "64KiB", "--solvers", "best-fit", "-o", rows).code == 0
    other, unnamed = tmp_path / "plan.jsonl", tmp_path / "spec.txt"
    other.write_bytes(plan.read_bytes())
    unnamed.write_bytes(hw.read_bytes())
    rows_elsewhere = tmp_path / "rows.txt"
    rows_elsewhere.write_bytes(rows.read_bytes())
    assert [kind_of(path) for path in (model, hw, plan, rows)] == [
        "ONNX model",
        "hardware spec",
        "plan",
        "table of rows",
    ]
    for arguments, said in (
        (["compile", hw, "--scratchpad", "64KiB"], "not an ONNX model, but a hardware spec: specs go behind --hw"),
        (["compile", model, "--hw", model], "not a hardware spec, but an ONNX model: models come first"),
        (["compile", plan, "--scratchpad", "64KiB"], "not an ONNX model, but a plan: plans are for run, verify"),
        (["inspect", rows], "not an ONNX model, but a table of rows: rows are for 'cosma report'"),
        (["verify", model, plan], "not a plan, but an ONNX model"),
        (["run", hw, model], "not a plan, but a hardware spec"),
        (["run", plan, model, "--inputs", plan], "--inputs FOLDER/plan.json: not a set of inputs, but a plan"),
        (["verify", plan, plan], "error: FOLDER/plan.json: not an ONNX model, but a plan"),
        (["diff", plan, rows], "not a plan, but a table of rows"),
        (["report", model], "not a plan, but an ONNX model"),
        (["report", hw], "not a plan, but a hardware spec: specs go behind --hw"),
        (["report", rows_elsewhere], "give the model of the plan too, or a .csv or .jsonl file of rows"),
        (["report", rows, model], "rows say what they are of; leave out"),
        (
            ["compare", model, "--budgets", "64KiB", "-o", other],
            "error: FOLDER/plan.jsonl: not a table of rows, but a plan",
        ),
        (["compile", model, "--hw", unnamed], "error: FOLDER/spec.txt: the name of a spec file ends in .yaml or .yml"),
        (["specs", "--keys", "gap8"], "leave it out, or gap8"),
    ):
        outcome = run(*arguments)
        assert (outcome.code, outcome.err.count("\n")) == (2, 1), outcome
        assert said.replace("FOLDER", str(tmp_path)) in outcome.err
    assert other.read_bytes() == plan.read_bytes()


def test_the_published_schema_is_what_the_code_makes_and_all_specs_obey_it() -> None:
    published = json.loads((ROOT / "cosma" / "spec.schema.json").read_text())
    assert published == json_schema()
    for name in spec_names():
        jsonschema.validate(yaml.safe_load((ROOT / "hw_specs" / f"{name}.yaml").read_text()), published)
    for wrong in ("scratchpad: {capacty: {}}", "dram: {bandwidth: }", "dram: {bandwidth: {value: 1 Gb/s, %s}}",
                  "dram: {bandwidth: {value: 16000000000, %s}}", "scratchpad: {capacity: {value: 512, %s}}",
                  "scratchpad: {holds_weights: {value: maybe, %s}}", "compute: {fusion: {value: all, %s}}"):  # fmt: skip
        text = wrong.replace("%s", "confirmed: yes, source: x")
        document = {"title": "x", **yaml.safe_load(PAD), **yaml.safe_load(text)}
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate(document, published)
        with pytest.raises(InputError):
            _parse("x", {"title": "x", **read_yaml(PAD.encode()), **read_yaml(text.encode())})


def test_the_examples_of_the_schema_are_specs() -> None:
    published = json_schema()
    jsonschema.Draft202012Validator.check_schema(published)
    for section in SECTIONS:
        for key, about in published["$defs"][section.capitalize()]["properties"].items():
            for example in about["examples"]:
                document = {"title": "x", **yaml.safe_load(PAD)}
                document[section] = {**document.get(section, {}), key: example}
                jsonschema.validate(document, published)
                assert dict(_parse("x", document).figures)[f"{section}.{key}"].value == example["value"]


def test_every_key_is_documented(run) -> None:
    documented = {key for key, what, examples in keys() if what and examples}
    assert documented == {f"{section}.{key}" for section, kind in SECTIONS.items() for key in kind.model_fields}
    text = run("specs", "--keys").out
    assert all(key in text for key in documented)
