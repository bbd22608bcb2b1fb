"""What a compiled program does, read from its optimized HLO text: products, communication, host transfers."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import cast

import numpy as np

PRODUCTS = ("dot", "convolution")
"""The TPU compiler turns every dot into a convolution."""

COLLECTIVES = ("all-reduce", "all-gather", "all-to-all", "ragged-all-to-all", "reduce-scatter", "collective-permute",
               "collective-broadcast")

HOST_OPCODES = ("infeed", "outfeed", "send", "recv", "send-done", "recv-done")

HOST_TARGETS = re.compile(r"callback|MoveToHost|MoveToDevice|annotate_device_placement", re.IGNORECASE)
"""Custom calls that run Python on the host, or place a buffer in its memory."""

HOST_MEMORY = "S(5)"
"""How a layout says that an array lies in host memory."""


@dataclass(frozen=True)
class Instruction:
    """One line of HLO."""

    name: str
    shape: str
    """As printed: `f32[2,8]{1,0}`, or several of them in parentheses."""
    opcode: str
    rest: str
    """Operands and attributes."""
    computation: str

    @property
    def dtypes(self) -> tuple[str, ...]:
        """Element types of the result, such as `f32`, `s8`, `pred`."""
        return tuple(re.findall(r"\b([a-z]\w*)\[", self.shape))

    @property
    def operands(self) -> list[str]:
        """Names of the operands."""
        return re.findall(r"%([\w.-]+)", self.rest.split(")")[0])


@dataclass(frozen=True)
class Product:
    """Element types of a matrix product."""

    lhs: str
    rhs: str
    result: str


@dataclass(frozen=True)
class Collective:
    """Communication between devices."""

    kind: str
    """One of `COLLECTIVES`."""
    axes: tuple[str, ...]
    """The mesh axes along which devices exchange; empty if every device only talks to itself."""
    dtypes: tuple[str, ...]
    """Distinct element types, sorted."""
    elements: int
    """Numbers that each device contributes."""
    loops: int
    """Nested loops around it: 1 in a train chunk is once per step."""


@dataclass(frozen=True)
class ProgramFacts:
    """What a compiled program does."""

    products: Counter[Product]
    """How many matrix products of each combination of element types stand in the program."""
    collectives: tuple[Collective, ...]
    host_transfers: tuple[str, ...]
    """Names of the instructions that exchange data with the host while the program runs."""
    donated: frozenset[tuple[int, int]]
    """(output, parameter) that share memory, by their number in the flattened results and arguments."""
    while_loops: int

    def over(self, axis: str) -> list[Collective]:
        """The communication along a mesh axis."""
        return [collective for collective in self.collectives if axis in collective.axes]


def read_program(text: str, mesh_shape: Mapping[str, int]) -> ProgramFacts:
    """Reads a compiled program.

    Args:
        text: Its optimized HLO (`compiled.as_text()`).
        mesh_shape: Sizes of the mesh axes by name, in the order of the mesh.
    """
    instructions = {instruction.name: instruction for instruction in parse(text)}
    loops = loop_depths(list(instructions.values()))
    products: Counter[Product] = Counter()
    collectives, transfers = [], []
    for one in instructions.values():
        if one.opcode in PRODUCTS:
            lhs, rhs = (instructions[name].dtypes[0] for name in one.operands[:2])
            products[Product(lhs, rhs, one.dtypes[0])] += 1
        if (kind := one.opcode.removesuffix("-start")) in COLLECTIVES:
            given = [instructions[name] for name in one.operands]
            dtypes = sorted({dtype for operand in given for dtype in operand.dtypes})
            elements = sum(element_count(operand.shape) for operand in given)
            axes = crossed_axes(replica_groups(one.rest, mesh_shape), mesh_shape)
            collectives.append(Collective(kind, axes, tuple(dtypes), elements, loops.get(one.computation, 0)))
        if _reaches_host(one):
            transfers.append(one.name)
    whiles = sum(one.opcode == "while" for one in instructions.values())
    return ProgramFacts(products, tuple(collectives), tuple(transfers), donated(text), whiles)


def parse(text: str) -> Iterator[Instruction]:
    """The instructions of all computations; their names are unique in a module."""
    computation = ""
    for line in text.splitlines():
        if header := re.match(r"(?:ENTRY )?%?([\w.-]+) \(.*\{$", line):
            computation = header[1]
        # The opcode is the first word after a space that opens a parenthesis: shapes have `:T(8,128)S(1)` but no space.
        elif found := re.match(r"\s+(?:ROOT )?%?([\w.-]+) = (.*?) ([a-z][\w-]*)\((.*)", line):
            name, shape, opcode, rest = found.groups()
            yield Instruction(name, shape, opcode, rest, computation)


def loop_depths(instructions: Sequence[Instruction]) -> dict[str, int]:
    """For each computation that another one calls, how many loops it runs inside of."""
    callers: dict[str, list[tuple[str, int]]] = {}
    for one in instructions:
        for attribute, one_name, names in re.findall(r"(\w+)=(?:%([\w.-]+)|\{(%[^}]*)\})", one.rest):
            for name in [one_name] if one_name else re.findall(r"%([\w.-]+)", names):
                callers.setdefault(name, []).append((one.computation, int(attribute == "body")))

    depths: dict[str, int] = {}

    def depth(name: str) -> int:
        if name not in depths:
            depths[name] = max((depth(caller) + inside for caller, inside in callers.get(name, [])), default=0)
        return depths[name]

    for name in callers:
        depth(name)
    return depths


def element_count(shape: str) -> int:
    """Numbers in an array, or in all arrays of a tuple."""
    arrays = re.findall(r"\b[a-z]\w*\[([\d,]*)\]", shape)
    return sum(math.prod(int(size) for size in dims.split(",") if size) for dims in arrays)


def replica_groups(attributes: str, mesh_shape: Mapping[str, int]) -> list[list[int]]:
    """The devices that exchange with each other, as positions in the mesh.

    Raises:
        ValueError: The groups are written in a way that is not known here.
    """
    total = math.prod(mesh_shape.values())
    if listed := re.search(r"(?:replica_groups|source_target_pairs)=\{((?:\{[\d,]*\},?)*)\}", attributes):
        groups = [[int(x) for x in group.split(",")] for group in re.findall(r"\{([\d,]+)\}", listed[1])]
        return groups or [list(range(total))]
    if iota := re.search(r"replica_groups=\[([\d,]+)\]<=\[([\d,]+)\](?:T\(([\d,]+)\))?", attributes):
        shape, source, order = ([int(x) for x in part.split(",")] if part else None for part in iota.groups())
        positions = np.arange(total).reshape(source).transpose(order)
        return cast(list[list[int]], positions.reshape(shape).tolist())
    raise ValueError(f"a collective must name its groups as {{...}} or [...]<=[...], got: {attributes[:200]}")


def crossed_axes(groups: Sequence[Sequence[int]], mesh_shape: Mapping[str, int]) -> tuple[str, ...]:
    """The mesh axes along which some group has several devices."""
    places = [np.unravel_index(np.array(group), tuple(mesh_shape.values())) for group in groups]
    return tuple(axis for i, axis in enumerate(mesh_shape) if any(len(set(place[i].tolist())) > 1 for place in places))


def donated(text: str) -> frozenset[tuple[int, int]]:
    """(output, parameter) pairs of the module's input_output_alias.

    Of a program with very many arguments XLA makes one tuple, whose elements are then the parameters.
    """
    header = text.split("\n", 1)[0]
    pairs = re.findall(r"\{(\d*)\}: \((\d+), \{(\d*)\}", header)
    return frozenset((int(out or 0), int(element or given)) for out, given, element in pairs)


def _reaches_host(one: Instruction) -> bool:
    if one.opcode in HOST_OPCODES or HOST_MEMORY in one.shape:
        return True
    target = re.search(r'custom_call_target="([^"]*)"', one.rest)
    return bool(target and HOST_TARGETS.search(target[1]))
