"""SVG by hand: bars and latency curves, readable on light and dark pages."""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape

WIDTH = 760
ROW = 26
LABEL = 250
COLOURS = ("#2563eb", "#d97706", "#059669", "#dc2626", "#7c3aed", "#0891b2", "#be185d", "#65a30d", "#78716c", "#1e3a8a")
STYLE = (
    "<style>text{font:13px system-ui,sans-serif;fill:#57606a}.t{font-weight:600;font-size:15px;fill:#24292f}"
    ".g{stroke:#8b949e;stroke-opacity:.35}@media(prefers-color-scheme:dark){text{fill:#9198a1}.t{fill:#e6edf3}}</style>"
)


def _page(height: int, title: str, body: list[str]) -> str:
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" role="img">'
    return (
        "\n".join(
            [
                head,
                f"<title>{escape(title)}</title>",
                STYLE,
                f'<text class="t" x="8" y="22">{escape(title)}</text>',
                *body,
                "</svg>",
            ]
        )
        + "\n"
    )


def bars(title: str, rows: Sequence[tuple[str, float]], *, unit: str, marked: str = "") -> str:
    """Horizontal bars; the row whose label is `marked` stands out."""
    largest = max((value for _, value in rows), default=1) or 1
    room = WIDTH - LABEL - 100
    body = []
    for index, (label, value) in enumerate(rows):
        y = 40 + index * ROW
        colour = COLOURS[0] if label == marked else "#8b949e"
        wide = max(1.0, room * value / largest)
        body.append(f'<text x="{LABEL - 8}" y="{y + 14}" text-anchor="end">{escape(label)}</text>')
        body.append(f'<rect x="{LABEL}" y="{y}" width="{wide:.1f}" height="{ROW - 8}" rx="2" fill="{colour}"/>')
        body.append(f'<text x="{LABEL + wide + 6:.1f}" y="{y + 14}">{value:,.3g} {escape(unit)}</text>')
    return _page(50 + len(rows) * ROW, title, body)


def curves(title: str, series: Sequence[tuple[str, Sequence[tuple[float, float]]]]) -> str:
    """Latency distributions: from the median to 99.99 %, both axes logarithmic. A point is (share, milliseconds)."""
    left, top, right, bottom = 60, 40, WIDTH - 200, 380
    points = {name: [(share, max(value, 0.01)) for share, value in curve if share >= 0.5] for name, curve in series}
    values = [value for curve in points.values() for _, value in curve] or [1.0]
    low, high = math.floor(math.log10(min(values))), math.ceil(math.log10(max(values)))
    high = max(high, low + 1)

    def x(share: float) -> float:
        nines = -math.log10(max(1 - share, 1e-4))
        return left + (right - left) * (nines - 0.301) / (4 - 0.301)

    def y(value: float) -> float:
        return bottom - (bottom - top) * (math.log10(value) - low) / (high - low)

    body = []
    for share, label in ((0.5, "50 %"), (0.9, "90 %"), (0.99, "99 %"), (0.999, "99.9 %"), (0.9999, "99.99 %")):
        body.append(f'<line class="g" x1="{x(share):.1f}" y1="{top}" x2="{x(share):.1f}" y2="{bottom}"/>')
        body.append(f'<text x="{x(share):.1f}" y="{bottom + 18}" text-anchor="middle">{label}</text>')
    for power in range(low, high + 1):
        at = y(10.0**power)
        body.append(f'<line class="g" x1="{left}" y1="{at:.1f}" x2="{right}" y2="{at:.1f}"/>')
        body.append(f'<text x="{left - 6}" y="{at + 4:.1f}" text-anchor="end">{10.0**power:g} ms</text>')
    for index, (name, curve) in enumerate(points.items()):
        colour = COLOURS[index % len(COLOURS)]
        path = " ".join(f"{x(share):.1f},{y(value):.1f}" for share, value in _thinned(curve))
        thick = 3 if index == 0 else 1.5
        body.append(f'<polyline fill="none" stroke="{colour}" stroke-width="{thick}" points="{path}"/>')
        body.append(f'<rect x="{right + 14}" y="{top + index * 22}" width="12" height="12" fill="{colour}"/>')
        body.append(f'<text x="{right + 32}" y="{top + index * 22 + 11}">{escape(name)}</text>')
    return _page(bottom + 40, title, body)


def _thinned(curve: Sequence[tuple[float, float]], most: int = 120) -> list[tuple[float, float]]:
    step = max(1, len(curve) // most)
    return [*curve[::step], *curve[-1:]]
