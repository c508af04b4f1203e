"""Bytes moved and multiply-accumulates -> estimates of time and energy. Bytes are facts; these are not."""

from collections.abc import Iterator
from dataclasses import asdict, dataclass

from cosma.hardware import Hardware

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

    def row(self) -> dict[str, float | None]:
        """The estimates as columns: estimate_transfer_s, ..., so that nobody takes them for facts."""
        return {f"estimate_{key}": value for key, value in asdict(self).items()}


def estimate(hardware: Hardware, moved_bytes: int, macs: int) -> Estimates:
    """Time and energy of moving `moved_bytes` (all traffic, compulsory included) and of `macs`.

    Never guesses: what needs a figure that the spec lacks is None.
    """
    bandwidth, rate, energy = hardware.dram_bytes_per_s, hardware.macs_per_s, hardware.dram_pj_per_byte
    transfer = None if bandwidth is None else moved_bytes / bandwidth
    compute = None if rate is None else macs / rate
    joules = None if energy is None else moved_bytes * energy * 1e-12
    if transfer is None or compute is None:
        return Estimates(transfer, compute, None, None, joules)
    return Estimates(transfer, compute, max(transfer, compute), transfer + compute, joules)


def assumptions(hardware: Hardware) -> tuple[str, ...]:
    """One line for each thing that the estimates on `hardware` take for granted."""
    return tuple(_assumptions(hardware))


def _assumptions(hardware: Hardware) -> Iterator[str]:
    yield f"transfers: every byte moves at the full DRAM bandwidth, {_cite(hardware, 'dram.bandwidth')}"
    if "compute.rate" in dict(hardware.figures) and "compute.clock" in dict(hardware.figures):
        speed = f"{_cite(hardware, 'compute.rate')} at {_cite(hardware, 'compute.clock')}"
    else:
        speed = _cite(hardware, "compute.peak")
    yield f"compute: full utilisation, whatever the element type, {speed}"
    yield "compute: multiply-accumulates of convolutions and matrix products only; all else takes no time"
    yield "overlapped: transfers and compute overlap perfectly; serial: not at all"
    yield f"energy: of the transfers alone, reads and writes alike, {_cite(hardware, 'dram.energy')}"
    if hardware.instances > 1:
        yield (
            f"one of {_cite(hardware, 'scratchpad.instances')} instances works alone and has "
            "the chip's whole DRAM bandwidth: times are lower bounds"
        )


def _cite(hardware: Hardware, key: str) -> str:
    figure = dict(hardware.figures).get(key)
    return f"{key} n/a" if figure is None else f"{key} {figure.value} ({_STATUS[figure.confirmed]})"
