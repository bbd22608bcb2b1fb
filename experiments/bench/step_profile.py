"""Where a compiled step's time goes: the device's trace, added up by the part of the model that each operation is from.

XLA names every operation after the code that made it (`op_name`), and keeps the names inside of what it fuses.
"""

from __future__ import annotations

import gzip
import json
import re
import tempfile
from collections import Counter, defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import jax

PARTS = (
    ("mask updates", r"/cond/"),
    ("mask application", r"jit\(_where\)"),
    ("quantization", r"aqt_|vmap\(jvp\(\)\)/"),  # the second is that of the embedding tables
    ("gelu", r"/intermediate/"),
    ("LayerNorm, residual", r"LayerNorm|attention/output/|layer/\d+/output/"),
    ("embeddings", r"_embeddings/"),
    ("attention but its products", r"attention/self/"),
    ("head", r"pooler|classifier"),
    ("optimizer", r"body/(closed_call/)?(vmap\(\)/)?[a-z_]+$"),
)
"""Parts by a pattern of the operation's name; the first that is found counts."""

DROPOUT = re.compile(r"/(xor|shift_right_logical)$")
"""Only dropout's hash uses these."""

PLUMBING = {"parameter", "constant", "broadcast", "bitcast", "tuple", "get-tuple-element", "iota", "reshape", "convert"}
CONTAINERS = {"while", "conditional", "call", "async-start", "async-done"}
"""Operations whose time is that of others."""


class Operation(NamedTuple):
    """One line of HLO."""

    opcode: str
    name: str
    """`op_name`: the code it comes from."""
    called: str | None
    """The computation that a fusion runs."""


def profiled(run: Callable[[], object], hlo: str) -> Counter[str]:
    """Seconds of the operations of one program while `run` runs it, added up by part; threads are added too."""
    options = jax.profiler.ProfileOptions()
    options.python_tracer_level = 0
    with tempfile.TemporaryDirectory() as folder:
        with jax.profiler.trace(folder, profiler_options=options):
            run()
        (trace,) = Path(folder).rglob("*.trace.json.gz")
        events = json.loads(gzip.decompress(trace.read_bytes()))["traceEvents"]
    operations, computations = read_operations(hlo)
    seconds: Counter[str] = Counter()
    for event in events:
        name = (event.get("args") or {}).get("hlo_op")
        if name in operations and operations[name].opcode not in CONTAINERS:
            seconds[part_of(operations[name], computations)] += event["dur"] / 1e6
    return seconds


def read_operations(hlo: str) -> tuple[dict[str, Operation], dict[str, list[Operation]]]:
    """The operations of an optimized HLO text by name, and those of each computation."""
    operations: dict[str, Operation] = {}
    computations: dict[str, list[Operation]] = defaultdict(list)
    computation = ""
    for line in hlo.splitlines():
        if header := re.match(r"(?:ENTRY )?%?([\w.-]+) \(.*\{$", line):
            computation = header[1]
        elif found := re.match(r"\s+(?:ROOT )?%?([\w.-]+) = .*? ([a-z][\w-]*)\((.*)", line):
            source, called = re.search(r'op_name="([^"]*)"', found[3]), re.search(r"calls=%?([\w.-]+)", found[3])
            one = Operation(found[2], source[1] if source else "", called[1] if called else None)
            operations[found[1]] = one
            computations[computation].append(one)
    return operations, computations


def part_of(operation: Operation, computations: dict[str, list[Operation]]) -> str:
    """The part that an operation, or most of what it fuses, is from, and the pass: forward, backward or neither."""
    inside = inner(operation, computations)
    products = [one for one in inside if one.opcode in ("dot", "convolution")]
    if products:
        name = products[0].name
        if "aqt_" in name:
            what = "products of Q, int8" if "aqt_fwd" in name else "products of Q, float"
        else:
            what = "attention's products" if re.search(r"bqhd|bhqk", name) else "float products"
        return f"{what}, {pass_of(name)}"
    names = [one.name for one in inside if one.name and one.opcode not in PLUMBING] or [operation.name]
    votes = Counter((part_of_name(name), pass_of(name)) for name in names)
    (part, direction), _ = votes.most_common(1)[0]
    return part if direction == "update" else f"{part}, {direction}"


def inner(operation: Operation, computations: dict[str, list[Operation]]) -> list[Operation]:
    """An operation and all that it fuses."""
    if operation.called is None:
        return [operation]
    return [operation, *(one for member in computations[operation.called] for one in inner(member, computations))]


def part_of_name(name: str) -> str:
    """The part that a name belongs to."""
    if DROPOUT.search(name):
        return "dropout"
    return next((part for part, pattern in PARTS if re.search(pattern, name)), "other")


def pass_of(name: str) -> str:
    """`forward`, `backward`, or `update` for what is outside of the loss."""
    if "transpose(" in name:
        return "backward"
    return "forward" if "jvp(" in name else "update"
