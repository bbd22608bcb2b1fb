"""Compiles train chunks for eight CPU devices and leaves their HLO in a folder, for `test_ahead.py`.

    XLA_FLAGS=--xla_force_host_platform_device_count=8 python -m tests.train.eight_devices FOLDER
"""

from __future__ import annotations

import json
import sys
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from bertjax.config import FLOAT, QuantizeConfig
from bertjax.model.sizes import size_config
from bertjax.train.ahead import DataShape, device_cost, lower_train_chunk
from bertjax.train.mesh import make_mesh
from bertjax.train.step import ProgramSpec

TINY = replace(size_config("tiny"), vocab_size=64, num_hidden_layers=1)
SPEC = ProgramSpec(TINY, (FLOAT, QuantizeConfig()), regression=False, part_tokens=16)
"""Batches in parts of two rows."""
DATA = DataShape(rows=50, longest=8, batch_size=8, steps=9)
QUICK = {"xla_backend_optimization_level": 0, "xla_llvm_disable_expensive_passes": True}
"""Halves the compilation; what is looked at was decided before."""


@dataclass(frozen=True)
class Case:
    """Trials on a mesh of eight devices."""

    shape: tuple[int, int]
    sizes: tuple[int, ...]
    """Of the float group, and of the quantized one."""


CASES = {
    "sixteen": Case((8, 1), (8, 8)),
    "subsets": Case((4, 2), (4, 4)),
    "plain": Case((8, 1), (8,)),
    "more": Case((8, 1), (16,)),
}


def main(folder: Path) -> None:
    """Writes NAME.hlo and NAME.json, the compiler's numbers."""
    for name, case in CASES.items():
        spec = replace(SPEC, groups=SPEC.groups[: len(case.sizes)])
        made = lower_train_chunk(spec, make_mesh(case.shape), case.sizes, DATA, length=8).compile(QUICK)
        (folder / f"{name}.hlo").write_text(made.as_text())
        memory = made.memory_analysis()
        (folder / f"{name}.json").write_text(json.dumps(
            asdict(device_cost(made)) | {"temporary_bytes": memory.temp_size_in_bytes}))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
