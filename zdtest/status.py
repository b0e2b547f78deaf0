"""Which HTTP statuses are asked for, written ``200``, ``200,204`` or ``2xx``."""

from __future__ import annotations

from zdtest.errors import ConfigError


def statuses(text: str) -> frozenset[int]:
    """Return the statuses in `text`; raises ConfigError when it names none."""
    found: set[int] = set()
    for word in text.replace(" ", "").lower().split(","):
        if len(word) == 3 and word.endswith("xx") and word[0] in "2345":
            found.update(range(int(word[0]) * 100, int(word[0]) * 100 + 100))
        elif word.isdecimal() and 200 <= int(word) <= 599:
            found.add(int(word))
        else:
            raise ConfigError(f"status {text!r}: expected such as 200, 200,204 or 2xx")
    return frozenset(found)
