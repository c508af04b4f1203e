"""Spec files: the keys of the YAML format and their meaning; each figure has a source."""

import difflib
from collections.abc import Hashable, Iterator, Sequence
from typing import Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from cosma.errors import InputError
from cosma.target.fusion import FUSIONS
from cosma.units import UNITS, quantity_pattern

_LARGEST = 100_000  # bytes of a spec file, fifty times what one takes


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Figure(_Strict):
    """One figure of a spec: the value as written, with its unit, and where it comes from."""

    value: str | bool = Field(description="The figure with its unit, e.g. 512 KiB; true or false where it is a fact.")
    source: str = Field(min_length=1, pattern=r"\S", description="Where it comes from: a page, a file, or 'assumed'.")
    confirmed: Literal["yes", "secondary", "no"] = Field(
        description="yes: the source is the maker or its code; secondary: it quotes them; no: recalled or assumed."
    )

    @model_validator(mode="before")
    @classmethod
    def _join_source(cls, value: object) -> object:
        """Rejoin a source that YAML split at its commas: {source: data sheet, page 3}.

        What follows `source` without a value of its own can be nothing else, unless it looks like a key.
        """
        if not isinstance(value, dict) or not isinstance(value.get("source"), str):
            return value
        joined: dict[object, Any] = {}
        follows = False
        for key, content in value.items():
            if follows and content is None and not closest(str(key), list(cls.model_fields)):
                joined["source"] += f", {key}"
            else:
                joined[key], follows = content, key == "source"
        return joined

    @field_validator("value", mode="before")
    @classmethod
    def _one_value(cls, value: object) -> object:
        if not isinstance(value, str | bool) or value == "":
            raise ValueError("a figure is one value, such as 512 KiB")
        return value

    @field_validator("confirmed", mode="before")
    @classmethod
    def _yaml_booleans(cls, value: object) -> object:
        return {True: "yes", False: "no"}.get(value, value) if isinstance(value, bool) else value


def _figure(kind: str, description: str, *examples: str | bool, default: Any = None) -> Any:
    """The field of a figure. kind: a dimension of `UNITS`, or a key of `_OTHER_VALUES`."""
    figures = [{"value": value, "confirmed": "yes", "source": "data sheet, page 3"} for value in examples]
    return Field(default=default, description=description, examples=figures, json_schema_extra={"kind": kind})


class Scratchpad(_Strict):
    """The memory that software manages."""

    capacity: Figure = _figure(
        "bytes", "Bytes of one scratchpad, of which whole multiples of the alignment are used.", "512 KiB", default=...
    )
    instances: Figure | None = _figure(
        "count", "How many such scratchpads the chip has; the DRAM is shared. 1 where not given.", "72"
    )
    alignment: Figure | None = _figure(
        "bytes", "What every address and size is a multiple of: 1, 2, 4, ... B. 1 B where not given.", "64 B"
    )
    holds_weights: Figure | None = _figure(
        "truth", "Whether parameters share it with the activations. false where not given.", True, False
    )


class Dram(_Strict):
    """The memory behind it."""

    bandwidth: Figure | None = _figure(
        "bytes/s", "Bytes that move to and from it in a second, of the whole chip.", "16 GB/s", "128 Gbit/s"
    )
    energy: Figure | None = _figure("pJ/B", "Energy of moving a byte to or from it.", "64 pJ/B", "8 pJ/bit")
    burst: Figure | None = _figure("bytes", "What a transfer moves a multiple of. 1 B where not given.", "64 B")


class Compute(_Strict):
    """The arithmetic."""

    rate: Figure | None = _figure(
        "MAC/cycle", "Multiply-accumulates in a cycle, of one scratchpad's part.", "256 MAC/cycle"
    )
    clock: Figure | None = _figure("Hz", "Cycles in a second.", "1 GHz")
    peak: Figure | None = _figure(
        "MAC/s", "Operations in a second, for where rate or clock is not given; a MAC is two.", "4 TOPS", "2 TMAC/s"
    )
    fusion: Figure | None = _figure("fusion", "Which operators run as one. none where not given.", "none", "pointwise")


class Tiles(_Strict):
    """How operators are cut into tiles."""

    buffers: Figure | None = _figure(
        "count", "Buffers of each streamed operand: 2 where the next tile comes in meanwhile. 1 where not given.", "2"
    )
    accumulator: Figure | None = _figure(
        "bytes",
        "Scratchpad bytes of an element of an incomplete sum. Where not given, those of an element of the output.",
        "4 B",
    )
    channels: Figure | None = _figure(
        "count", "Channels that a tile has a multiple of, the last tile excepted. 1 where not given.", "16"
    )
    rows: Figure | None = _figure("count", "The same of rows of an image or a matrix.", "16")
    columns: Figure | None = _figure("count", "The same of columns of an image.", "16")


class Modes(_Strict):
    """What operators can do besides keeping every operand in the scratchpad."""

    tile: Figure | None = _figure(
        "truth", "Whether they can run in tiles, operands being streamed. Assumed where not given.", True, False
    )


class Spec(_Strict):
    """An accelerator with a software-managed scratchpad."""

    title: str = Field(description="What it is, in words.")
    scratchpad: Scratchpad
    dram: Dram = Dram()
    compute: Compute = Compute()
    tiles: Tiles = Tiles()
    modes: Modes = Modes()


SECTIONS: dict[str, type[_Strict]] = {
    "scratchpad": Scratchpad,
    "dram": Dram,
    "compute": Compute,
    "tiles": Tiles,
    "modes": Modes,
}


def figures(spec: Spec) -> Iterator[tuple[str, Figure]]:
    """The figures of a spec by dotted key, in the order of the sections."""
    for section in SECTIONS:
        for key, figure in getattr(spec, section):
            if figure is not None:
                yield f"{section}.{key}", figure


def keys() -> Iterator[tuple[str, str, str]]:
    """(dotted key, what it means, examples) of every figure."""
    for section, model in SECTIONS.items():
        for key, field in model.model_fields.items():
            examples: Any = field.examples or []
            shown = ", ".join(str(e["value"]).lower() if isinstance(e["value"], bool) else e["value"] for e in examples)
            yield f"{section}.{key}", field.description or "", shown


# The JSON Schema of values that are no quantities.
_OTHER_VALUES: dict[str, dict[str, Any]] = {
    "count": {"type": ["integer", "string"], "minimum": 1, "pattern": "^[1-9][0-9]{0,8}$"},
    "truth": {"type": "boolean"},
    "fusion": {"enum": list(FUSIONS)},
}


def json_schema() -> dict[str, object]:
    """The JSON Schema (draft 2020-12) of spec files, as published in cosma/spec.schema.json.

    It holds of what a YAML library makes of a file. The reader takes units in other cases too, where one alone can
    be meant, and knows what a schema cannot say: powers of two, no figure of 0.
    """
    schema: dict[str, Any] = Spec.model_json_schema()
    figure = schema["$defs"]["Figure"]["properties"]
    figure["value"] = {"description": figure["value"]["description"]}
    figure["confirmed"]["enum"] = ["yes", "secondary", "no", True, False]  # YAML reads yes and no as truth values
    figure["confirmed"].pop("type", None)
    for section in SECTIONS:
        schema["properties"][section].pop("default", None)
        for key in schema["$defs"][section.capitalize()]["properties"].values():
            kind = key.pop("kind")
            quantity = {"type": "string", "pattern": quantity_pattern(kind)} if kind in UNITS else _OTHER_VALUES[kind]
            for none_needed in ("anyOf", "default"):  # a key without a figure is refused
                key.pop(none_needed, None)
            key |= {"$ref": "#/$defs/Figure", "properties": {"value": quantity}}
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema, "title": "cosma hardware spec"}


class _Loader(yaml.SafeLoader):
    """YAML loader that refuses duplicate and merged keys, aliases and tags, and does not convert numbers.

    Figures stay text: YAML would convert 010 to 8 and 1:30 to 90. Raises YAMLError for tags.
    """

    yaml_implicit_resolvers = {  # noqa: RUF012, as in the base class
        first: [(tag, pattern) for tag, pattern in resolvers if tag.endswith((":bool", ":null"))]
        for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }

    def compose_node(self, parent: Any, index: Any) -> Any:
        event: Any = self.peek_event()  # type: ignore[no-untyped-call]
        line = event.start_mark.line + 1
        if isinstance(event, yaml.AliasEvent):
            raise InputError(f"line {line}: alias *{event.anchor}: write the figure out instead")
        if event.tag is not None:
            raise yaml.YAMLError(f"line {line}: tag {event.tag} has no place in a spec; leave it out")
        return super().compose_node(parent, index)

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Hashable, Any]:
        """Read a mapping; keys stay text. Raises InputError for a duplicate key."""
        found: dict[Hashable, Any] = {}
        for key, value in node.value:
            line = key.start_mark.line + 1
            if not isinstance(key, yaml.ScalarNode):
                raise InputError(f"line {line}: a key is one word, not a list or a mapping")
            if key.value in found:
                raise InputError(f"line {line}: key {key.value!r} is given twice; leave one of the two out")
            found[key.value] = self.construct_object(value, deep=True)
        return found


def read_yaml(data: bytes) -> Any:
    """Read a YAML file: text, booleans, None, lists, mappings.

    Raises InputError for a file that is too long or not YAML, and for duplicate keys, aliases and tags.
    """
    if len(data) > _LARGEST:
        raise InputError(
            f"{len(data):,} B are too many for a hardware spec; give another file, or at most {_LARGEST:,} B"
        )
    try:
        return yaml.load(data, _Loader)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        first = " ".join(str(error).split())[:160]
        raise InputError(f"not a YAML file ({first})") from None


def validate(document: object) -> Spec:
    """Validate a document. Raises InputError with one line: the key that is missing, unknown or of a wrong type."""
    if not isinstance(document, dict):
        kind = "empty" if document is None else f"a {type(document).__name__}"
        raise InputError(f"the spec is {kind}, not a mapping; see 'cosma specs' for examples")
    try:
        spec = Spec.model_validate(document)
    except ValidationError as error:
        raise InputError(_explain(error)) from None
    for section in SECTIONS:
        for key, figure in getattr(spec, section):
            if figure is None and key in getattr(spec, section).model_fields_set:
                raise InputError(f"key '{section}.{key}' is empty; leave it out where its figure is not known")
    return spec


def check_key(dotted: str) -> None:
    """Raise InputError unless `dotted` is the key of a figure, such as "dram.bandwidth"."""
    section, _, key = dotted.partition(".")
    if section not in SECTIONS:
        raise InputError(_unknown_key((section,)))
    if key not in SECTIONS[section].model_fields:
        raise InputError(_unknown_key((section, key)))


def _explain(error: ValidationError) -> str:
    """One line for a failed validation: an unknown key first, since a typo also makes a key missing."""
    first: Any = min(error.errors(), key=lambda e: e["type"] != "extra_forbidden")
    where = ".".join(str(part) for part in first["loc"])
    if first["type"] == "extra_forbidden":
        return _unknown_key(first["loc"])
    if first["type"] == "missing":
        return f"key {where!r} is missing"
    shown = repr(first["input"])[:80]
    if where in SECTIONS:
        return f"{where!r} must be a mapping of {', '.join(_known_keys(first['loc']))}, not {shown}"
    if first["type"] in ("model_type", "model_attributes_type"):
        return f"{where!r} must be a mapping like {{value: 512 KiB, confirmed: yes, source: ...}}, not {shown}"
    said = first["msg"].removeprefix("Value error, ")
    return f"{where!r}: {said[0].lower()}{said[1:]}, not {shown}"


def _unknown_key(location: tuple[Any, ...]) -> str:
    """Error message for an unknown key: the section it belongs to, or the closest known key."""
    *outer, key = map(str, location)
    known = _known_keys(tuple(outer))
    other = [section for section, model in SECTIONS.items() if key in model.model_fields]
    meant = f"; it belongs under {other[0]!r}" if other and len(outer) < 2 else hint(key, known)
    return f"unknown key {'.'.join(map(str, location))!r}{meant}; known keys here: {', '.join(known)}"


def _known_keys(location: tuple[Any, ...]) -> list[str]:
    model: Any = Spec
    for part in location:
        model = SECTIONS.get(part, Figure)
    return list(model.model_fields)


def closest(word: str, known: Sequence[str]) -> str | None:
    """The known word most similar to `word`, None if none is similar."""
    return next(iter(difflib.get_close_matches(word, known, n=1, cutoff=0.5)), None)


def hint(word: str, known: Sequence[str]) -> str:
    """Suffix of an error message that suggests the closest known word; "" if there is none."""
    close = closest(word, known)
    return f"; did you mean {close!r}?" if close else ""
