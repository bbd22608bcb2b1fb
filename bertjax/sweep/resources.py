"""What a Ray task asks of its node, and the environment that its process starts in."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from bertjax.config import named_numbers, require
from bertjax.heap import TUNABLES

Resources = Mapping[str, int]
"""Whole numbers of `TPU` (chips), `GPU` and `CPU`."""

PASSED = ("BERTJAX_", "HF_", "JAX_", "TF_CPP_", "TOKENIZERS_", "TRANSFORMERS_", "XLA_")
"""How the names of variables begin that tasks get from the process that plans."""

SECRET = "HF_TOKEN"
"""Not passed: Ray shows what a task's environment is. Nodes that need it have their own."""


def parse_resources(text: str) -> Resources:
    """`TPU=4,CPU=8` by name."""
    found = named_numbers(text, ("TPU", "GPU", "CPU"), "--resources-per-task must read like TPU=4 or GPU=1,CPU=8")
    require(not {"TPU", "GPU"} <= found.keys(), f"--resources-per-task must name TPU or GPU, got both: {text!r}")
    return found


def default_resources(nodes: Sequence[Mapping[str, float]]) -> Resources:
    """The TPU chips of a node where nodes have some; else a GPU; else the CPUs of the smallest node.

    Args:
        nodes: Of each all that it has, as Ray names it.

    Raises:
        InputError: There is nothing to compute on.
    """
    tpus, gpus, cpus = ([int(node[name]) for node in nodes if node.get(name, 0) >= 1] for name in ("TPU", "GPU", "CPU"))
    if tpus:
        return {"TPU": min(tpus)}
    if gpus:
        return {"GPU": 1}
    require(bool(cpus), "no node of the Ray cluster has a TPU, GPU or CPU for tasks; where it starts nodes for tasks "
                        "that wait, say what they have: --resources-per-task TPU=4 --ray-wait 30")
    return {"CPU": min(cpus)}


def fits(resources: Resources, node: Mapping[str, float]) -> bool:
    """Whether a node has all of it, in use or not."""
    return all(node.get(name, 0) >= count for name, count in resources.items())


def in_words(resources: Mapping[str, float]) -> str:
    """`TPU=4,CPU=8`, as `parse_resources` reads it."""
    return ",".join(f"{name}={resources[name]:g}" for name in ("TPU", "GPU", "CPU") if resources.get(name)) or "none"


def platform_of(resources: Resources) -> str:
    """What JAX calls that on which such a task computes."""
    return "tpu" if "TPU" in resources else "gpu" if "GPU" in resources else "cpu"


def process_environment(resources: Resources, ours: Mapping[str, str]) -> dict[str, str]:
    """What is set before a task's process starts.

    Args:
        resources: The task's.
        ours: The environment of the process that plans.
    """
    made = {name: value for name, value in ours.items() if name.startswith(PASSED) and name != SECRET}
    made["GLIBC_TUNABLES"] = ours.get("GLIBC_TUNABLES", TUNABLES)
    # The process that plans keeps off accelerators, so its JAX_PLATFORMS says nothing here.
    made["JAX_PLATFORMS"] = "cpu" if platform_of(resources) == "cpu" else ""
    if platform_of(resources) == "cpu":
        made["NPROC"] = str(resources["CPU"])  # as many threads does XLA compute with
    return made
