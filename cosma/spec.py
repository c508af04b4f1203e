"""Spec files: the YAML as people write it, its keys and their meaning, each figure with its source."""

import difflib
from collections.abc import Hashable, Iterator, Sequence
from typing import Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from cosma.errors import InputError


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Figure(_Strict):
    """One figure of a spec: the value as written, with its unit, and where it comes from."""

    value: str | bool = Field(description="The figure with its unit, e.g. 512 KiB; true or false where it is a fact.")
    source: str = Field(min_length=1, description="Where it comes from: a page, a file, or 'assumed'.")
    confirmed: Literal["yes", "secondary", "no"] = Field(
        description="yes: the source is the maker or its code; secondary: it quotes them; no: recalled or assumed."
    )

    @model_validator(mode="before")
    @classmethod
    def _join_source(cls, value: object) -> object:
        """Put a source together that YAML took apart at its commas: {source: data sheet, page 3}.

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
    def _no_bare_numbers(cls, value: object) -> object:
        return value if isinstance(value, bool) else str(value)

    @field_validator("confirmed", mode="before")
    @classmethod
    def _yaml_booleans(cls, value: object) -> object:
        return {True: "yes", False: "no"}.get(value, value) if isinstance(value, bool) else value


def _figure(description: str, *examples: str | bool) -> Any:
    return Field(default=None, description=description, examples=[{"value": value} for value in examples])


class Scratchpad(_Strict):
    """The memory that software manages."""

    capacity: Figure = Field(description="Bytes of one scratchpad.", examples=[{"value": "512 KiB"}])
    instances: Figure | None = _figure("How many such scratchpads the chip has; the DRAM is shared.", "72")
    alignment: Figure | None = _figure("What every address is a multiple of: 1, 2, 4, ... B.", "64 B")
    holds_weights: Figure | None = _figure("Whether parameters share it with the activations.", True, False)


class Dram(_Strict):
    """The memory behind it."""

    bandwidth: Figure | None = _figure("Bytes that move to and from it in a second.", "16 GB/s", "128 Gbit/s")
    energy: Figure | None = _figure("Energy of moving a byte to or from it.", "64 pJ/B", "8 pJ/bit")


class Compute(_Strict):
    """The arithmetic."""

    rate: Figure | None = _figure("Multiply-accumulates in a cycle, of one scratchpad's part.", "256 MAC/cycle")
    clock: Figure | None = _figure("Cycles in a second.", "1 GHz")
    peak: Figure | None = _figure("Operations in a second, where rate or clock is unknown; a MAC is two.", "4 TOPS")
    fusion: Figure | None = _figure("Which operators run as one: none, or pointwise.", "pointwise")


class Spec(_Strict):
    """An accelerator with a software-managed scratchpad."""

    title: str = Field(description="What it is, in words.")
    scratchpad: Scratchpad
    dram: Dram = Dram()
    compute: Compute = Compute()


SECTIONS: dict[str, type[_Strict]] = {"scratchpad": Scratchpad, "dram": Dram, "compute": Compute}


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


def json_schema() -> dict[str, object]:
    """The JSON Schema (draft 2020-12) of spec files, as published in cosma/spec.schema.json.

    Looser than the reader in one place: it takes numbers and YAML's truth values where the reader does.
    """
    schema: dict[str, Any] = Spec.model_json_schema()
    figure = schema["$defs"]["Figure"]["properties"]
    figure["value"].pop("anyOf", None)
    figure["value"]["type"] = ["string", "boolean", "number"]
    figure["confirmed"]["enum"] = ["yes", "secondary", "no", True, False]  # YAML reads yes and no as truth values
    figure["confirmed"].pop("type", None)
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema, "title": "cosma hardware spec"}


class _Loader(yaml.SafeLoader):
    """YAML without what specs have no use for: keys said twice, of which one would be ignored, and aliases."""

    def compose_node(self, parent: Any, index: Any) -> Any:
        if self.check_event(yaml.AliasEvent):
            event: Any = self.peek_event()  # type: ignore[no-untyped-call]
            raise InputError(f"line {event.start_mark.line + 1}: alias *{event.anchor}: write the figure out instead")
        return super().compose_node(parent, index)

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Hashable, Any]:
        seen: set[str] = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode):
                if key.value in seen:
                    line = key.start_mark.line + 1
                    raise InputError(f"line {line}: key {key.value!r} is given twice; leave one of the two out")
                seen.add(key.value)
        return super().construct_mapping(node, deep)


def read_yaml(data: bytes) -> Any:
    """What a YAML file holds. Raises InputError for one that is none, for keys given twice and for aliases."""
    try:
        return yaml.load(data, _Loader)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        first = " ".join(str(error).split())[:160]
        raise InputError(f"not a YAML file ({first})") from None


def validate(document: object) -> Spec:
    """A spec. Raises InputError with one line: what is missing, unknown or of another kind."""
    if not isinstance(document, dict):
        kind = "empty" if document is None else f"a {type(document).__name__}"
        raise InputError(f"the spec is {kind}, not a mapping; see 'cosma specs' for examples")
    try:
        return Spec.model_validate(document)
    except ValidationError as error:
        raise InputError(_explain(error)) from None


def _explain(error: ValidationError) -> str:
    """The most telling complaint of a validation, in one line: a typo first, which explains what is missing."""
    first: Any = min(error.errors(), key=lambda e: e["type"] != "extra_forbidden")
    where = ".".join(str(part) for part in first["loc"])
    if first["type"] == "extra_forbidden":
        key, known = str(first["loc"][-1]), _known_keys(first["loc"][:-1])
        return f"unknown key {where!r}{hint(key, known)}; known keys here: {', '.join(known)}"
    if first["type"] == "missing":
        return f"key {where!r} is missing"
    shown = repr(first["input"])[:80]
    if "Figure" in first["msg"] or first["type"] in ("model_type", "model_attributes_type"):
        return f"{where!r} must be a mapping like {{value: 512 KiB, confirmed: yes, source: ...}}, not {shown}"
    return f"{where!r}: {first['msg'][0].lower()}{first['msg'][1:]}, not {shown}"


def _known_keys(location: tuple[Any, ...]) -> list[str]:
    model: Any = Spec
    for part in location:
        model = SECTIONS.get(part, Figure)
    return list(model.model_fields)


def closest(word: str, known: Sequence[str]) -> str | None:
    """The known word that looks most like another, None if none does."""
    return next(iter(difflib.get_close_matches(word, known, n=1, cutoff=0.5)), None)


def hint(word: str, known: Sequence[str]) -> str:
    """What may have been meant, to go behind a complaint."""
    close = closest(word, known)
    return f"; did you mean {close!r}?" if close else ""
