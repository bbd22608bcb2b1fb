"""Reads TensorBoard's event files."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path

from tensorboardX.proto.event_pb2 import Event


def events(folder: Path) -> Iterator[Event]:
    """Of all files of a run in the order of their writing: each a length, its checksum, the event, its checksum."""
    for file in sorted(folder.glob("events.out.tfevents.*")):
        content, at = file.read_bytes(), 0
        while at < len(content):
            (length,) = struct.unpack_from("<Q", content, at)
            yield Event.FromString(content[at + 12 : at + 12 + length])
            at += 16 + length


def shown(folder: Path) -> dict[str, dict[int, float]]:
    """By tag and step what TensorBoard shows: a new session's start drops later steps of those before."""
    found: dict[str, dict[int, float]] = {}
    for event in events(folder):
        if event.session_log.status == event.session_log.START:
            found = {tag: {step: v for step, v in values.items() if step < event.step} for tag, values in found.items()}
        for value in event.summary.value:
            assert event.step not in found.setdefault(value.tag, {}), "shown twice"
            found[value.tag][event.step] = round(value.simple_value, 4)
    return found
