"""How runs were measured, and what differs of it from one release to another."""

from __future__ import annotations

from collections.abc import Mapping

Pair = tuple[str, str]
"""What it was, and what it is; "" where nothing was told."""


def told(name: str, value: str) -> str:
    """Return the value of a setting, or what it means that there is none."""
    return value or ("the default" if name.startswith("promise ") else "not set")


def differing(old: Mapping[str, str], new: Mapping[str, str]) -> dict[str, Pair]:
    """Return what is not the same on both sides, by its name."""
    pairs = {name: (old.get(name, ""), new.get(name, "")) for name in sorted({*old, *new})}
    return {name: pair for name, pair in pairs.items() if pair[0] != pair[1]}


def otherwise(old: Mapping[str, str], new: Mapping[str, str]) -> dict[str, Pair]:
    """Return the settings that differ; a channel that one of them lacks is one setting."""
    pairs = differing(old, new)
    for channel in {_channel(name) for name in {*old, *new}} - {""}:
        sides = [_about(side, channel) for side in (old, new)]
        if not all(sides):
            pairs = {name: pair for name, pair in pairs.items() if _channel(name) != channel}
            pairs[f"channel {channel}"] = (sides[0], sides[1])
    return dict(sorted(pairs.items()))


def _channel(setting: str) -> str:
    """Return which channel's setting that is, "" where it is none's."""
    kind, _, rest = setting.partition(" ")
    return rest.partition(" ")[0] if kind == "channel" else ""


def _about(settings: Mapping[str, str], channel: str) -> str:
    told = (
        f"{name.rpartition(' ')[2]} {value}"
        for name, value in settings.items()
        if _channel(name) == channel
    )
    return ", ".join(told)
