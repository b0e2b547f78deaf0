"""Matplotlib figures as SVG that lives inside the page: its colours, its font, nothing else's.

Figures are drawn with stand-in colours, one a role; `render` replaces them by the page's CSS
variables, so one drawing serves the light page, the dark one and the printed one.
"""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import matplotlib as mpl
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

from zdtest.report.number import html

if TYPE_CHECKING:
    from matplotlib.axes import Axes

ROLES = (
    *("ink", "quiet", "line", "page", "deploy", "fault", "ok", "slow", "bad", "badtint"),
    *("p50", "p99", "max", "v0", "v1", "v2", "v3", "v4"),
)
COLOUR = {role: f"#0000{place + 1:02x}" for place, role in enumerate(ROLES)}
"""The stand-in of each role; black itself is none, so that what has no role is seen in a test."""

STYLE: Any = {
    "svg.fonttype": "none",  # text stays text: small, sharp, selectable, and escaped as XML
    "text.parse_math": False,  # a version named $x$ is not mathematics
    "font.size": 11.0,
    "axes.edgecolor": COLOUR["line"],
    "axes.labelcolor": COLOUR["quiet"],
    "axes.linewidth": 1.0,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.spines.left": False,
    "grid.color": COLOUR["line"],
    "grid.linewidth": 0.6,
    "xtick.color": COLOUR["line"],
    "xtick.labelcolor": COLOUR["quiet"],
    "ytick.color": COLOUR["line"],
    "ytick.labelcolor": COLOUR["quiet"],
    "ytick.major.size": 0.0,
    "text.color": COLOUR["ink"],
    "hatch.linewidth": 1.2,
}


def render(
    draw: Callable[[Axes], None],
    *,
    name: str,
    about: str,
    size: tuple[int, int],
    box: tuple[int, int, int, int],
) -> str:
    """Return the SVG element of one plot, `size` and `box` (left, bottom, right, top) in pixels.

    `name` keeps its ids apart from those of the page's other plots; `about` says in words what it
    shows. The same drawing always gives the same text.
    """
    width, height = size
    left, bottom, right, top = box
    with mpl.rc_context({**STYLE, "svg.hashsalt": name}), warnings.catch_warnings():
        # Only the measuring of text needs glyphs here; the browser brings its own fonts.
        warnings.filterwarnings("ignore", "Glyph .* missing")
        figure = Figure(figsize=(width / 72, height / 72), dpi=72)
        figure.patch.set_visible(False)
        axes = figure.add_axes(
            (left / width, bottom / height, 1 - (left + right) / width, 1 - (top + bottom) / height)
        )
        axes.patch.set_visible(False)
        draw(axes)
        drawn = io.StringIO()
        no_metadata = dict.fromkeys(("Date", "Creator", "Format", "Type"))
        canvas: Any = FigureCanvasSVG(figure)
        canvas.print_svg(drawn, metadata=no_metadata)
    return _inline(drawn.getvalue(), size, about)


def _inline(drawn: str, size: tuple[int, int], about: str) -> str:
    """Return Matplotlib's document as an element of a page."""
    body = drawn.partition("</defs>")[2].rpartition("</svg>")[0]
    used = set(re.findall(r'#([^")]+)[")]', body))
    body = re.sub(r' id="([^"]*)"', lambda m: m[0] if m[1] in used else "", body)
    body = re.sub(r' style="([^"]*)"', lambda m: f' style="{_style(m[1])}"', body)
    body = re.sub(r'(fill|stroke)="(#0000\w\w)"', lambda m: f'style="{m[1]}: {_named(m[2])}"', body)
    body = re.sub(r' d="([^"]*)"', lambda m: f' d="{_short(m[1])}"', body)
    body = re.sub(r' transform="rotate\(-?0 [^"]*"', "", body)
    body = re.sub(r"\n\s*", "\n", body)
    head = f'<svg role="img" viewBox="0 0 {size[0]} {size[1]}" aria-label="{html(about, 2000)}">'
    return f"{head}{body}</svg>"


_ROLE = {colour: f"var(--{role})" for role, colour in COLOUR.items()}


def _named(colour: str) -> str:
    return _ROLE.get(colour, colour)


def _style(style: str) -> str:
    """Return a style with roles for colours and the page's own fonts."""
    style = re.sub(r"font-family: [^;]*;? ?", "", style)
    style = re.sub(r"font: ([\d.]+px) [^;]*", r"font-size: \1", style)
    return re.sub(r"#0000\w\w", lambda m: _named(m[0]), style)


def _short(path: str) -> str:
    """Return a path with hundredths of a pixel, which is all that can be seen."""
    rounded = re.sub(r"-?\d+\.\d+", lambda m: f"{float(m[0]):.2f}".rstrip("0").rstrip("."), path)
    return re.sub(r"\s+", " ", rounded).replace(" L ", "L").strip()
