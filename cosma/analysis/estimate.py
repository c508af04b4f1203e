"""Bytes moved and multiply-accumulates -> estimates of time and energy. Bytes are facts; these are not."""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass

from cosma.graph import Graph
from cosma.target.hardware import Hardware

_SHOWN = 5  # names of operators in one line
_STATUS = {"yes": "confirmed", "secondary": "second-hand", "no": "unconfirmed"}


@dataclass(frozen=True, slots=True)
class Estimates:
    """Seconds and joules of one inference on one instance; None where the spec lacks a figure.

    overlapped_s: transfers and compute overlap perfectly, the longer decides; serial_s: not at all.
    `assumptions` says what all of them rest on.
    """

    transfer_s: float | None
    compute_s: float | None
    overlapped_s: float | None
    serial_s: float | None
    transfer_energy_j: float | None

    @property
    def known(self) -> bool:
        """Whether any of them could be made."""
        return any(value is not None for value in asdict(self).values())

    def row(self) -> dict[str, float | None]:
        """The estimates as columns: estimate_transfer_s, ..., a prefix that keeps them apart from facts."""
        return {f"estimate_{key}": value for key, value in asdict(self).items()}


def estimate(hardware: Hardware, moved_bytes: int, macs: int | None) -> Estimates:
    """Time and energy of moving `moved_bytes` (all traffic, compulsory included) and of `macs`, None if not known.

    Never guesses: what needs a figure that the spec lacks is None.
    """
    bandwidth, rate, energy = hardware.dram_bytes_per_s, hardware.macs_per_s, hardware.dram_pj_per_byte
    transfer = None if bandwidth is None else moved_bytes / bandwidth
    compute = None if rate is None or macs is None else macs / rate
    joules = None if energy is None else moved_bytes * energy * 1e-12
    if transfer is None or compute is None:
        return Estimates(transfer, compute, None, None, joules)
    return Estimates(transfer, compute, max(transfer, compute), transfer + compute, joules)


def known_macs(graph: Graph) -> int | None:
    """Multiply-accumulates of what could be counted; None where something could not and all the rest has none."""
    return None if graph.uncounted and not graph.macs else graph.macs


def count_left_out(names: Sequence[str]) -> str:
    """ "3 operators that are not counted (a, b, c)": what a count of multiply-accumulates leaves out."""
    rest = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    what = "operator that is" if len(names) == 1 else "operators that are"
    return f"{len(names)} {what} not counted ({', '.join(names[:_SHOWN])}{rest})"


def assumptions(hardware: Hardware) -> tuple[str, ...]:
    """One line for each thing that the estimates on `hardware` take for granted."""
    return tuple(_assumptions(hardware))


def _assumptions(hardware: Hardware) -> Iterator[str]:
    cited = {key: f"{key} {figure.value} ({_STATUS[figure.confirmed]})" for key, figure in hardware.figures}

    def basis(*keys: str) -> str:
        missing = [key for key in keys if key not in cited]
        return f"n/a without {' and '.join(missing)}" if missing else " at ".join(cited[key] for key in keys)

    rated = "compute.peak" not in cited or {"compute.rate", "compute.clock"} <= cited.keys()
    yield (
        "transfer time: the plan's bytes at full DRAM bandwidth, parameters only where they share the scratchpad; "
        + basis("dram.bandwidth")
    )
    yield (
        "compute time: convolutions and matrix products at full utilisation, whatever their element type; "
        "other operators take no time; " + (basis("compute.rate", "compute.clock") if rated else basis("compute.peak"))
    )
    yield "overlapped: transfers and compute overlap perfectly; serial: not at all"
    yield f"energy: of transfers alone, loads and stores alike; {basis('dram.energy')}"
    if hardware.instances > 1:
        count = basis("scratchpad.instances")
        yield f"{count}: one of them alone has the chip's DRAM bandwidth, so times are lower bounds"
