"""Dictionaries of a bounded size, which keep the newest entries."""

from __future__ import annotations

from typing import TypeVar

T = TypeVar("T")


def keep_newest(memory: dict[str, T], key: str, value: T, limit: int) -> None:
    """Put ``value`` into ``memory``, and remove the oldest entry if there are more than ``limit``."""
    memory.pop(key, None)
    memory[key] = value
    if len(memory) > limit:
        del memory[next(iter(memory))]
