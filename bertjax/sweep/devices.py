"""What devices can do and hold: by their datasheets, or those that are here."""

from __future__ import annotations

import math
import os
import re
import socket
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import jax

from bertjax.config import require
from bertjax.train.processes import from_all


@dataclass(frozen=True)
class Device:
    """One chip."""

    name: str
    peak_flops: float
    """FLOP/s of dense matrix products: bfloat16 on accelerators, float32 on a CPU core."""
    memory_bytes: float | None
    """None where it is the host's."""
    share: float
    """The share of the peak that training is assumed to reach."""
    platform: str
    """JAX's name of its kind: `cpu`, `gpu` or `tpu`."""


@dataclass(frozen=True)
class Devices:
    """What a program may run on: so many devices of one kind."""

    count: int
    platform: str
    memory_bytes: float | None
    """Of each; None where it is not known, and nothing is planned by it."""


_ACCELERATOR_SHARE = 0.4
"""An assumption, until it is measured on the device: large BERTs reach it, small ones do not."""

DEVICES = {device.name: device for device in (
    Device("v4", 275e12, 32e9, _ACCELERATOR_SHARE, "tpu"), Device("v5e", 197e12, 16e9, _ACCELERATOR_SHARE, "tpu"),
    Device("v5p", 459e12, 95e9, _ACCELERATOR_SHARE, "tpu"), Device("v6e", 918e12, 32e9, _ACCELERATOR_SHARE, "tpu"),
    Device("a100", 312e12, 80e9, _ACCELERATOR_SHARE, "gpu"), Device("h100", 989e12, 80e9, _ACCELERATOR_SHARE, "gpu"),
    Device("h200", 989e12, 141e9, _ACCELERATOR_SHARE, "gpu"),
    # A core with AVX2 at 3 GHz; 157.7 trial-examples/s on two of them (experiments/BENCHMARKS.md) are this share.
    Device("cpu", 96e9, None, 0.6, "cpu"),
)}
"""Cloud TPUs and NVIDIA's cards by their datasheets (dense bfloat16), and one core of a CPU."""

KINDS = {
    "TPU v4": "v4", "TPU v5 lite": "v5e", "TPU v5": "v5p", "TPU v6 lite": "v6e",
    "NVIDIA A100-SXM4-40GB": "a100", "NVIDIA A100-SXM4-80GB": "a100", "NVIDIA A100-PCIE-40GB": "a100",
    "NVIDIA A100 80GB PCIe": "a100", "NVIDIA H100 80GB HBM3": "h100", "NVIDIA H200": "h200",
}
"""Names in `DEVICES` by what JAX calls the kind of a device; other forms of a card, as the H100 PCIe, are slower."""

FLAT_SLICES = ("1x1", "2x2", "2x4", "4x4", "4x8", "8x8", "8x16", "16x16")
"""Slices of the TPUs whose chips are linked in two dimensions, by Cloud TPU's documentation."""

TPU_SLICES = {"v4": None, "v5e": FLAT_SLICES, "v5p": None, "v6e": FLAT_SLICES}
"""By TPU; None where a slice is AxBxC, each 1, 2 or a multiple of 4."""

CONTAINER_LIMITS = (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"))
"""Where Linux says how much memory a container may take."""


def parse_device(text: str) -> tuple[Device, int]:
    """The device and number of chips of `h100`, `h100:8`, `v5e:2x4` or `cpu:16`; a bare `cpu` is this machine's cores.

    Raises:
        InputError: Anything else, such as a TPU slice that there is not.
    """
    found = re.fullmatch(r"(\w+)(?::(\d+(?:x\d+)*))?", text)
    name, shape = (found[1], found[2]) if found else (text, None)
    sides = tuple(map(int, shape.split("x"))) if shape else ((os.cpu_count() or 1) if name == "cpu" else 1,)
    chips = math.prod(sides)
    require(name in DEVICES and chips > 0, f"device must be one of {', '.join(DEVICES)}, with chips like v5e:2x4, "
                                           f"h100:8 or cpu:16; got {text!r}")
    if name in TPU_SLICES:
        _check_slice(name, sides, text)
    return DEVICES[name], chips


def _check_slice(name: str, sides: tuple[int, ...], text: str) -> None:
    """Raises `InputError` where a TPU has no slice of these sides, or of so many chips if that is all that is said."""
    if (flat := TPU_SLICES[name]) is not None:
        chips = {math.prod(map(int, shape.split("x"))) for shape in flat}
        there = sides[0] in chips if len(sides) == 1 else "x".join(map(str, sides)) in flat
        require(there, f"{name} has slices of {', '.join(flat)}; got {text!r}")
    else:
        there = len(sides) in (1, 3) and all(side in (1, 2) or side % 4 == 0 for side in sides)
        require(there, f"{name} has slices like {name}:2x2x4, of three sides that are 1, 2 or a multiple of 4; "
                       f"got {text!r}")


def datasheet(device_kind: str) -> Device | None:
    """What is known of a device that JAX calls so; None if nothing is."""
    name = KINDS.get(device_kind)
    return None if name is None else DEVICES[name]


def devices_here() -> Devices:
    """The devices that JAX has, of all processes: each must ask, and gets the same answer, with the least memory."""
    first, count, host = jax.local_devices()[0], jax.device_count(), socket.gethostname()
    if first.platform == "cpu":
        memory, sharing = _host_memory(), jax.local_device_count() * from_all(host).count(host)
        limit = None if memory is None else memory / sharing
    else:
        limit = (first.memory_stats() or {}).get("bytes_limit")
    limits = from_all(limit)
    return Devices(count, first.platform, None if None in limits else min(limits))


def _host_memory() -> float | None:
    """Bytes of memory that this process may have: the machine's, or its container's if that is less."""
    found = []
    with suppress(OSError, ValueError, AttributeError):  # no such thing on some systems
        found.append(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))
    for limit in CONTAINER_LIMITS:
        with suppress(OSError, ValueError):  # a ValueError where there is none: it reads "max"
            found.append(int(limit.read_text()))
    return min(found, default=None)
