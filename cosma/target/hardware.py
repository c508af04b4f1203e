"""Hardware: the figures of a spec of hw_specs/ as numbers."""

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from types import MappingProxyType
from typing import Any

from cosma.errors import InputError
from cosma.files import PACKAGE, read_input
from cosma.graph import Fusion
from cosma.kinds import complain
from cosma.modes import ModeSet
from cosma.names import shown
from cosma.nest import AxisKind, Tiler
from cosma.problem import Memory
from cosma.target.fusion import FUSIONS
from cosma.target.spec import Compute, Figure, Spec, figures, hint, read_yaml, validate
from cosma.units import parse_bytes, parse_quantity

# In a wheel the specs lie inside the package, in a checkout beside it.
SPEC_FOLDER = next((p for p in (PACKAGE / "hw_specs", PACKAGE.parent / "hw_specs") if p.is_dir()), PACKAGE)


@dataclass(frozen=True, slots=True)
class Hardware:
    """One software-managed scratchpad and what surrounds it. None: the figure is not known.

    capacity_bytes is rounded down to the alignment. Bandwidth in bytes/s, energy in pJ per byte
    moved to or from DRAM. macs_per_s: multiply-accumulates a second at full utilisation, rate x clock
    where both are known, else the stated peak. `weights`: whether parameters share this scratchpad
    with the activations. `instances`: how many such scratchpads the chip has; capacity and macs_per_s
    are those of one, the DRAM is the whole chip's. `tiler`: what its tiles are like. `modes`: the mode sets of which it
    is known whether the machine has them.
    """

    name: str
    capacity_bytes: int
    title: str = ""
    alignment_bytes: int = 1
    weights: bool = False
    fusion: Fusion = "none"
    dram_bytes_per_s: float | None = None
    dram_pj_per_byte: float | None = None
    macs_per_s: float | None = None
    instances: int = 1
    tiler: Tiler = field(default_factory=Tiler)
    modes: tuple[tuple[ModeSet, bool], ...] = ()
    figures: tuple[tuple[str, Figure], ...] = ()

    def __post_init__(self) -> None:
        alignment = self.alignment_bytes
        if alignment < 1 or alignment & (alignment - 1):
            raise InputError(
                f"hardware {self.name!r}: alignment of {alignment} B is not a power of two; use 1, 2, 4, ... B"
            )
        usable = self.capacity_bytes // alignment * alignment
        if usable <= 0:
            raise InputError(
                f"hardware {self.name!r}: scratchpad of {self.capacity_bytes} B holds nothing "
                f"(alignment {alignment} B); give a capacity such as 512 KiB"
            )
        object.__setattr__(self, "capacity_bytes", usable)

    @property
    def memory(self) -> Memory:
        """The scratchpad as a problem has it."""
        return Memory(self.capacity_bytes, self.alignment_bytes)


def spec_names(folder: Path = SPEC_FOLDER) -> list[str]:
    """Names of the specs that come with cosma, sorted."""
    return sorted(path.stem for path in folder.glob("*.yaml"))


def load_hardware(
    name_or_path: str, folder: Path = SPEC_FOLDER, instead: Mapping[str, str | bool] = MappingProxyType({})
) -> Hardware:
    """Read a spec by the name of a file in hw_specs/ ("nvdla_large") or by its path.

    instead: values by dotted key ("dram.bandwidth") that take the place of the spec's.
    Raises InputError: no such spec, not YAML, unknown or missing keys, figures without unit or source.
    """
    path = Path(name_or_path)
    if path.suffix.lower() not in (".yaml", ".yml"):
        path = folder / f"{name_or_path}.yaml"
        if not os.path.isfile(path):  # noqa: PTH113, which never raises
            complain(Path(name_or_path), "hardware spec")
            if os.path.isfile(name_or_path):  # noqa: PTH113
                raise InputError(f"{name_or_path}: the name of a spec file ends in .yaml or .yml; rename it")
            known = spec_names(folder)
            raise InputError(
                f"no hardware spec {name_or_path!r}{hint(name_or_path, known)}; run 'cosma specs' to list them"
            )
    try:
        data = read_input(path)
    except OSError as error:
        raise InputError(
            f"{path}: cannot read the hardware spec ({error.strerror}); give a name or a YAML file"
        ) from None
    try:
        document = read_yaml(data)
        if instead and isinstance(document, dict):
            document = _replace_figures(document, instead)
        return _parse(path.stem, document)
    except InputError as error:
        complain(path, "hardware spec")
        changed = "".join(f" with {key}={value}" for key, value in instead.items())
        raise InputError(f"{path}{changed}: {error}") from None


def _replace_figures(document: dict[Any, Any], instead: Mapping[str, str | bool]) -> dict[Any, Any]:
    """Replace the values of some dotted keys of a document; `_parse` checks the result."""
    document = dict(document)
    for key, value in instead.items():
        section, _, name = key.partition(".")
        old = document.get(section)
        figure = {"value": value, "source": "given by the user", "confirmed": "no"}
        document[section] = {**(old if isinstance(old, dict) else {}), name: figure}
    return document


def _parse(name: str, document: object) -> Hardware:
    spec = validate(document)
    pad, dram, compute = spec.scratchpad, spec.dram, spec.compute
    fusion = _text(compute.fusion, "none")
    if fusion not in FUSIONS:
        raise InputError(
            f"compute.fusion: {fusion!r} is unknown{hint(fusion, FUSIONS)}; choose one of {', '.join(FUSIONS)}"
        )
    return Hardware(
        name=shown(name),
        title=spec.title,
        capacity_bytes=parse_bytes(str(pad.capacity.value), "scratchpad.capacity"),
        alignment_bytes=parse_bytes(_text(pad.alignment, "1 B"), "scratchpad.alignment"),
        weights=_flag(pad.holds_weights, "scratchpad.holds_weights"),
        fusion=fusion,
        dram_bytes_per_s=_number(dram.bandwidth, "bytes/s", "dram.bandwidth"),
        dram_pj_per_byte=_number(dram.energy, "pJ/B", "dram.energy"),
        macs_per_s=_macs_per_s(compute),
        instances=_count(pad.instances, "scratchpad.instances"),
        tiler=_tiler(spec),
        modes=() if spec.modes.tile is None else (("tile", _flag(spec.modes.tile, "modes.tile")),),
        figures=tuple(figures(spec)),
    )


def _text(figure: Figure | None, default: str) -> str:
    return default if figure is None else str(figure.value)


def _flag(figure: Figure | None, what: str) -> bool:
    value = False if figure is None else figure.value
    if not isinstance(value, bool):
        raise InputError(f"{what}: {value!r} is neither true nor false")
    return value


def _number(figure: Figure | None, dimension: str, what: str) -> float | None:
    if figure is None:
        return None
    value: Fraction = parse_quantity(str(figure.value), dimension, what)
    if value == 0:
        raise InputError(f"{what}: {figure.value!r} is zero; leave the key out if the figure is unknown")
    if not 10**-300 < value < 10**300:
        raise InputError(f"{what}: {figure.value!r} is no figure of a machine; correct it")
    return float(value)


def _macs_per_s(compute: Compute) -> float | None:
    rate = _number(compute.rate, "MAC/cycle", "compute.rate")
    clock = _number(compute.clock, "Hz", "compute.clock")
    peak = _number(compute.peak, "MAC/s", "compute.peak")
    if rate is None or clock is None:
        return peak
    if not 1e-300 < rate * clock < 1e300:
        raise InputError(
            f"compute.rate x compute.clock: {rate * clock:.4g} MAC/s is no figure of a machine; correct them"
        )
    return rate * clock


def _tiler(spec: Spec) -> Tiler:
    tiles, burst = spec.tiles, parse_bytes(_text(spec.dram.burst, "1 B"), "dram.burst")
    buffers = _count(tiles.buffers, "tiles.buffers")
    accumulator = None if tiles.accumulator is None else parse_bytes(str(tiles.accumulator.value), "tiles.accumulator")
    for key, value in (("dram.burst", burst), ("tiles.accumulator", accumulator)):
        if value == 0:
            raise InputError(f"{key}: it has no byte; leave the key out if the figure is unknown")
    if buffers > 2:
        raise InputError(f"tiles.buffers: {buffers} is neither 1 nor 2, one to fill while the other is used")
    kinds: tuple[tuple[AxisKind, Figure | None, str], ...] = (
        ("channel", tiles.channels, "channels"), ("row", tiles.rows, "rows"), ("column", tiles.columns, "columns"),
    )  # fmt: skip
    granularity = ((kind, _count(figure, f"tiles.{key}")) for kind, figure, key in kinds if figure is not None)
    return Tiler(buffers, accumulator, burst, tuple(granularity))


def _count(figure: Figure | None, what: str) -> int:
    text = _text(figure, "1")
    if not re.fullmatch("[1-9][0-9]{0,8}", text):
        raise InputError(f"{what}: {text[:20]!r} is not a count of 1 or more; write e.g. 72")
    return int(text)
