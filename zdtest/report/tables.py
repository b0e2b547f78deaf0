"""Data frames as HTML tables: headed, scoped, escaped, quiet where there is nothing to see."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Any

import pandas as pd

from zdtest.report.number import html

Show = Callable[[Any], str]
"""How a column writes its values; `str` is for words, which stand on the left."""


class Loud(str):
    """What a cell says that stands out whatever its column is."""

    __slots__ = ()


def prose(value: object) -> str:
    """Return a sentence, which may take several lines."""
    return str(value or "")


def table(
    rows: pd.DataFrame,
    columns: Mapping[str, tuple[str, Show]],
    *,
    caption: str,
    alarming: Collection[str] = (),
    shown: bool = False,
) -> str:
    """Return `rows` as a table of those columns, the first one heading each row.

    A column is ``name: (head, show)``. Zeros are quiet; what is not zero in an `alarming` column
    stands out. The caption is for those who hear the page, and for all where `shown`.
    """
    heads = "".join(
        f'<th scope="col"{_class(show)}>{html(head)}</th>' for head, show in columns.values()
    )
    body = "".join(f"<tr>{_row(row, columns, alarming)}</tr>\n" for row in rows.to_dict("records"))
    hidden = "" if shown else ' class="unseen"'
    return (
        f'<div class="scroll" role="region" tabindex="0" aria-label="{html(caption)}"><table>'
        f"<caption{hidden}>{html(caption)}</caption>"
        f"<thead><tr>{heads}</tr></thead>\n<tbody>\n{body}</tbody></table></div>"
    )


def facts(pairs: Mapping[str, object]) -> str:
    """Return names and values as a two-column table; a value of None or "" is left out."""
    rows = "".join(
        f'<tr><th scope="row">{html(name)}</th><td>{html(value, 2000)}</td></tr>\n'
        for name, value in pairs.items()
        if value not in (None, "")
    )
    return f'<div class="scroll"><table class="facts"><tbody>\n{rows}</tbody></table></div>'


def _row(
    row: Mapping[Any, Any],
    columns: Mapping[str, tuple[str, Show]],
    alarming: Collection[str],
) -> str:
    cells = []
    for place, (name, (_, show)) in enumerate(columns.items()):
        value = row.get(name)
        text = html(show(value))
        if place == 0:
            cells.append(f'<th scope="row"{_class(show)}>{text}</th>')
        else:
            quiet = value in (0, "0", "", None)
            loud = name in alarming or isinstance(value, Loud)
            tone = "quiet" if quiet else "alarm" if loud else ""
            cells.append(f"<td{_class(show, tone)}>{text}</td>")
    return "".join(cells)


def _class(show: Show, tone: str = "") -> str:
    kind = {str: "", prose: "wrap"}.get(show, "n")
    names = " ".join(word for word in (kind, tone) if word)
    return f' class="{names}"' if names else ""
