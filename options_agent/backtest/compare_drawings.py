"""Curves of a comparison as SVG: equity, drawdown and the distance from the base, each line named at its end."""

from __future__ import annotations

import datetime as dt
import math
from dataclasses import dataclass, replace
from html import escape
from typing import TYPE_CHECKING, Final

import numpy as np

from options_agent.backtest.metrics.evidence import since_paid_in
from options_agent.backtest.saved_runs import times

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    import pyarrow as pa
    from numpy.typing import NDArray

    from options_agent.backtest.metrics.evidence import Currency

    Floats = NDArray[np.float64]

#: One for each run in turn; told apart by people who confuse red and green, too.
COLOURS: Final = ("#3566b8", "#d0661b", "#2f9175", "#8d4ba8", "#b8306a", "#7a7420", "#4f6672", "#a0522d")
_SOFT: Final = "#6b7780"
_WIDE: Final = 1_000
_LEFT: Final = 62
_RIGHT: Final = 92
_TOP: Final = 8
#: A line has no more points than this: the highest and the lowest of each stretch are kept.
_POINTS: Final = 1_200


@dataclass(frozen=True, slots=True)
class Curve:
    """A line: times in microseconds, values in percent."""

    name: str
    colour: str
    ts: NDArray[np.int64]
    values: Floats
    dashed: bool = False


def colour_of(n: int) -> str:
    """The colour of the n-th run."""
    return COLOURS[n % len(COLOURS)]


def equity_curves(equities: Mapping[str, pa.Table], order: Sequence[str], currency: Currency) -> list[Curve]:
    """Growth since the start, percent; in USD with the coin held, dashed: once for runs whose coins went alike."""
    found = []
    held: list[Floats] = []
    for label, table in equities.items():
        ts, colour = times(table, "ts"), colour_of(order.index(label))
        since, values = since_paid_in(table, currency)
        found.append(Curve(label, colour, since, _growth(values)))
        if currency == "usd":
            index = _growth(table["index"].to_numpy())
            if not any(math.isclose(index[-1], other[-1], abs_tol=0.5) for other in held):
                held.append(index)
                found.append(Curve(f"{label}: coin held", colour, ts, index, dashed=True))
    # one coin for all belongs to none of them
    return [replace(c, colour=_SOFT) if c.dashed and len(held) == 1 else c for c in found]


def drawdown_curves(equities: Mapping[str, pa.Table], order: Sequence[str], currency: Currency) -> list[Curve]:
    """Fall from the running peak, percent (never above 0)."""
    found = []
    for label, table in equities.items():
        ts, values = since_paid_in(table, currency)
        peak = np.maximum.accumulate(values)
        with np.errstate(divide="ignore", invalid="ignore"):
            found.append(Curve(label, colour_of(order.index(label)), ts, 100 * (values / peak - 1)))
    return found


def difference_curves(document_series: Mapping[str, dict[str, list[float | None]]], at: Sequence[str], currency: str) -> list[Curve]:
    """Each run's growth less the base's, points, day by day; without the base itself."""
    ts = np.array([int(dt.datetime.fromisoformat(t).timestamp() * 1e6) for t in at], dtype=np.int64)
    return [
        Curve(label, colour_of(n), ts, 100 * np.array(series[f"less_base_{currency}"], dtype=np.float64))
        for n, (label, series) in enumerate(document_series.items())
        if n
    ]


def chart(curves: Sequence[Curve], *, label: str, unit: str = "%", high: int = 230) -> str:
    """An SVG with a grid, dates below and each line's name and last value at its end; empty where nothing is finite."""
    known = [c for c in curves if np.isfinite(c.values).any()]
    if not known:
        return ""
    start, end = min(int(c.ts[0]) for c in known), max(int(c.ts[-1]) for c in known)
    floor, ceiling = _limits(known)
    parts = []

    def x(ts: float) -> float:
        return _LEFT + (_WIDE - _LEFT - _RIGHT) * (ts - start) / max(end - start, 1)

    def y(value: float) -> float:
        return _TOP + (high - _TOP) * (ceiling - value) / (ceiling - floor)

    for tick in _ticks(floor, ceiling):
        zero = ' class="zero"' if abs(tick) < 1e-12 else ' class="grid"'
        parts.append(f'<line x1="{_LEFT}" x2="{_WIDE - _RIGHT}" y1="{y(tick):.1f}" y2="{y(tick):.1f}"{zero}/>')
        parts.append(f'<text x="{_LEFT - 8}" y="{y(tick) + 4:.1f}" text-anchor="end">{_signed(tick, "g")} {unit}</text>')
    for at, words in _dates(start, end):
        parts.append(f'<line x1="{x(at):.1f}" x2="{x(at):.1f}" y1="{high}" y2="{high + 4}" class="zero"/>')
        parts.append(f'<text x="{x(at):.1f}" y="{high + 17}" text-anchor="middle">{words}</text>')
    for curve in known:
        ts, values = thinned(curve.ts, curve.values)
        points = " ".join(f"{x(t):.1f},{y(v):.1f}" for t, v in zip(ts.tolist(), values.tolist(), strict=True))
        style = 'stroke-width="1.2" stroke-dasharray="5 4" stroke-opacity=".75"' if curve.dashed else 'stroke-width="1.7"'
        title = escape(f"{curve.name}: {values[-1]:+.2f} {unit}")
        parts.append(f'<polyline points="{points}" fill="none" stroke="{curve.colour}" {style}><title>{title}</title></polyline>')
    parts += _names(known, y, high, unit)
    style = (
        "text{font:12px system-ui,sans-serif;fill:#6b7780}.grid{stroke:#6b7780;stroke-opacity:.18}.zero{stroke:#6b7780;stroke-opacity:.6}"
    )
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDE} {high + 24}" role="img" aria-label="{escape(label)}">'
        f"<style>{style}</style>{''.join(parts)}</svg>"
    )


def thinned(ts: NDArray[np.int64], values: Floats) -> tuple[NDArray[np.int64], Floats]:
    """Finite points, at most about `_POINTS`: of each stretch its highest and its lowest, so that no spike is lost; both ends kept."""
    known = np.isfinite(values)
    ts, values = ts[known], values[known]
    if values.size <= _POINTS:
        return ts, values
    keep = [0, values.size - 1]
    for piece in np.array_split(np.arange(values.size), _POINTS // 2):
        keep += [int(piece[np.argmin(values[piece])]), int(piece[np.argmax(values[piece])])]
    chosen = np.unique(keep)
    return ts[chosen], values[chosen]


def _signed(value: float, digits: str) -> str:
    """With its sign; zero, and what rounds to it, has none."""
    words = format(value, f"+{digits}")
    return words if float(words) else format(0.0, digits)


def _growth(values: Floats) -> Floats:
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray(100 * (values / values[0] - 1))


def _limits(curves: Sequence[Curve]) -> tuple[float, float]:
    finite = np.concatenate([c.values[np.isfinite(c.values)] for c in curves])
    low, high = min(0.0, float(finite.min())), max(0.0, float(finite.max()))
    if high - low < 1e-9:
        return low - 1.0, high + 1.0
    room = 0.04 * (high - low)
    return low - (room if low < 0 else 0.0), high + (room if high > 0 else 0.0)


def _ticks(low: float, high: float) -> list[float]:
    """Four to seven round values."""
    rough = (high - low) / 5
    size = 10 ** math.floor(math.log10(rough))
    step = next(s * size for s in (1, 2, 2.5, 5, 10) if s * size >= rough)
    return [round(n * step, 10) for n in range(math.ceil(low / step), math.floor(high / step) + 1)]


def _dates(start: int, end: int) -> list[tuple[int, str]]:
    """Some eight dates, at midnights."""
    day = 86_400_000_000
    days = max(1, (end - start) // day)
    step = next((s for s in (1, 2, 3, 7, 14, 30, 61, 91, 182, 365) if days / s <= 9), 730) * day
    first = -(-start // day) * day
    epoch = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
    words = "%Y-%m-%d" if days > 300 else "%d %b"
    return [(at, (epoch + dt.timedelta(microseconds=at)).strftime(words)) for at in range(first, end + 1, step)]


def _names(curves: Sequence[Curve], y: Callable[[float], float], high: int, unit: str) -> list[str]:
    """Names at the right, moved apart where they would lie on each other."""
    last = [float(curve.values[np.isfinite(curve.values)][-1]) for curve in curves]
    order = sorted(range(len(curves)), key=lambda n: y(last[n]))
    places = [y(last[n]) for n in order]
    for n in range(1, len(places)):
        places[n] = max(places[n], places[n - 1] + 14)
    limit = float(high)
    for n in range(len(places) - 1, -1, -1):
        places[n] = min(places[n], limit)
        limit = places[n] - 14
    found = []
    for place, n in zip(places, order, strict=True):
        curve = curves[n]
        words = f"{'coin' if curve.dashed else curve.name} {_signed(last[n], '.1f')} {unit}"
        style = f"fill:{curve.colour};font-weight:{400 if curve.dashed else 600}"
        found.append(f'<text x="{_WIDE - _RIGHT + 6}" y="{place + 4:.1f}" style="{style}">{escape(words)}</text>')
    return found
