"""Numbers in sentences."""

from __future__ import annotations


def number_of(thing: str, count: int) -> str:
    """`1 trial`, `2 trials`, `1,728 trials`."""
    return f"{count:,} {thing}" if count == 1 else f"{count:,} {thing}s"
