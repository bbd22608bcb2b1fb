"""What devices can do, by their datasheets, for estimates of a study's hours."""

from __future__ import annotations

import math
import os
import re
from dataclasses import dataclass

from bertjax.config import require


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


_ACCELERATOR_SHARE = 0.4
"""An assumption, until it is measured on the device: large BERTs reach it, small ones do not."""

DEVICES = {device.name: device for device in (
    Device("v4", 275e12, 32e9, _ACCELERATOR_SHARE), Device("v5e", 197e12, 16e9, _ACCELERATOR_SHARE),
    Device("v5p", 459e12, 95e9, _ACCELERATOR_SHARE), Device("v6e", 918e12, 32e9, _ACCELERATOR_SHARE),
    Device("a100", 312e12, 80e9, _ACCELERATOR_SHARE), Device("h100", 989e12, 80e9, _ACCELERATOR_SHARE),
    Device("h200", 989e12, 141e9, _ACCELERATOR_SHARE),
    # A core with AVX2 at 3 GHz; 157.7 trial-examples/s on two of them (experiments/BENCHMARKS.md) are this share.
    Device("cpu", 96e9, None, 0.6),
)}
"""Cloud TPUs and NVIDIA's cards by their datasheets (dense bfloat16), and one core of a CPU."""


def parse_device(text: str) -> tuple[Device, int]:
    """The device and number of chips of `h100`, `h100:8`, `v5e:2x4` or `cpu:16`; a bare `cpu` is this machine's cores.

    Raises:
        InputError: Anything else.
    """
    found = re.fullmatch(r"(\w+)(?::(\d+(?:x\d+)*))?", text)
    name, shape = (found[1], found[2]) if found else (text, None)
    chips = math.prod(map(int, shape.split("x"))) if shape else (os.cpu_count() or 1) if name == "cpu" else 1
    require(name in DEVICES and chips > 0, f"device must be one of {', '.join(DEVICES)}, with chips like v5e:2x4, "
                                           f"h100:8 or cpu:16; got {text!r}")
    return DEVICES[name], chips
