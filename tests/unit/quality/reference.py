"""The rules once more, slowly: plain Python, a row at a time, written from docs/quality.md and sharing no code with them.

Only the price formula is borrowed (it has its own reference). Arbitrage is searched over every pair and triple.
"""

from __future__ import annotations

import datetime as dt
import math
import re
import statistics

import numpy as np

from options_agent.pricing.black76 import coin_price_scalar, greeks_scalar
from options_agent.settings import QualitySettings
from tests.unit.quality.market import Row

MONTHS = ["JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC"]
REQUIRED = ["ts", "snapshot", "underlying", "instrument", "expiry", "strike", "right", "settlement", "source", "network", "region"]
NUMBERS = [
    "strike",
    "bid",
    "ask",
    "mark",
    "bid_size",
    "ask_size",
    "bid_iv",
    "ask_iv",
    "mark_iv",
    "delta",
    "gamma",
    "vega",
    "theta",
    "forward",
    "index",
    "open_interest",
    "volume_24h",
]
WARNINGS = {"locked"}


def number(row: Row, name: str) -> float | None:
    """A value that counts as a number: neither null nor NaN."""
    value = row.get(name)
    return None if value is None or math.isnan(value) else float(value)  # type: ignore[arg-type]


def verdicts(quotes: list[Row], settings: QualitySettings, previous: list[Row] | None = None) -> list[set[str]]:
    """Names of the rules each row breaks."""
    everything = [*(previous or []), *quotes]
    broken = [by_itself(row, settings) for row in everything]

    def believed() -> list[int]:
        return [i for i, names in enumerate(broken) if not names - WARNINGS]

    for i in duplicates(everything, set(believed())):
        broken[i].add("duplicate")
    for i in backwards(everything, believed()):
        broken[i].add("time_backwards")
    for i in [i for group in chains(everything, believed()) for i in outliers(everything, group, settings)]:
        broken[i].add("smile_outlier")
    for i in [i for group in chains(everything, believed()) for i in arbitrage(everything, group, settings)]:
        broken[i].add("static_arbitrage")
    return broken[len(previous or []) :]


def by_itself(row: Row, s: QualitySettings) -> set[str]:
    """Rules that need one row only."""
    bad: set[str] = set()
    v = {name: number(row, name) for name in NUMBERS}
    bid, ask, mark, vol, forward, strike = v["bid"], v["ask"], v["mark"], v["mark_iv"], v["forward"], v["strike"]
    if any(row.get(name) is None for name in REQUIRED):
        bad.add("missing_field")
    if mark is None and vol is None and (bid is None or ask is None):
        bad.add("missing_field")
    if forward is None and v["index"] is None:
        bad.add("missing_field")
    if any(row.get(name) is not None and not math.isfinite(row[name]) for name in NUMBERS):  # type: ignore[arg-type]
        bad.add("not_finite")
    if any(v[name] is not None and v[name] <= 0 for name in ("strike", "bid", "ask", "forward", "index")):  # type: ignore[operator]
        bad.add("not_positive")
    nonnegative = ["mark", "bid_size", "ask_size", "bid_iv", "ask_iv", "mark_iv", "open_interest", "volume_24h", "gamma", "vega"]
    if any(v[name] is not None and v[name] < 0 for name in nonnegative):  # type: ignore[operator]
        bad.add("not_positive")
    least, most = {"C": (0.0, 1.0), "P": (-1.0, 0.0)}.get(str(row.get("right")), (-1.0, 1.0))
    if v["delta"] is not None and not least - 1e-6 <= v["delta"] <= most + 1e-6:  # type: ignore[operator]
        bad.add("not_positive")
    if not named_right(row):
        bad.add("unknown_instrument")
    ts, snapshot, expiry = row.get("ts"), row.get("snapshot"), row.get("expiry")
    if isinstance(ts, dt.datetime) and isinstance(expiry, dt.datetime) and ts >= expiry:
        bad.add("expired")
    if isinstance(ts, dt.datetime) and isinstance(snapshot, dt.datetime):
        if (snapshot - ts).total_seconds() > s.stale_seconds:
            bad.add("stale")
        if (ts - snapshot).total_seconds() > s.late_seconds:
            bad.add("late")
    if bid is not None and ask is not None and bid > ask:
        bad.add("crossed")
    if bid is not None and bid == ask:
        bad.add("locked")
    if row.get("underlying") in ("BTC", "ETH"):
        for price in (bid, ask):
            if price is not None and math.isfinite(price):
                steps = price / tick(price)
                if abs(steps - round(steps)) > s.tick_tolerance:
                    bad.add("off_tick")
        beyond = max(bid - mark, mark - ask) if None not in (bid, ask, mark) else -1.0  # type: ignore[operator]
        if mark is not None and beyond / tick(mark) > s.mark_band_ticks and beyond > s.mark_band_share * mark:
            bad.add("mark_band")
    if vol is not None and not s.iv_min <= vol <= s.iv_max:
        bad.add("absurd_iv")
    if None not in (mark, vol, forward, strike) and isinstance(ts, dt.datetime) and isinstance(expiry, dt.datetime):
        years = max((expiry - ts).total_seconds(), 0) / (365 * 86_400)
        model = coin_price_scalar(forward, strike, years, vol, row["right"] == "C")
        delta = greeks_scalar(forward, strike, years, vol, row["right"] == "C")[1]
        if abs(mark - model) > s.mark_model_coin + s.mark_model_forward * abs(delta - model):  # type: ignore[operator]
            bad.add("mark_model")
    return bad


def tick(price: float) -> float:
    """Tick of the inverse families."""
    return 0.0005 if price > 0.005 * (1 + 1e-9) else 0.0001


def named_right(row: Row) -> bool:
    """Whether the name is an option's and says what the row says (coin-settled families)."""
    match = re.fullmatch(r"([A-Z0-9]+)-(\d{1,2})([A-Z]{3})(\d\d)-(\d+)(?:d(\d+))?-([CP])", str(row.get("instrument")))
    if not match or match[3] not in MONTHS:
        return False
    try:
        expiry = dt.datetime(2000 + int(match[4]), MONTHS.index(match[3]) + 1, int(match[2]), 8, tzinfo=dt.UTC)
    except ValueError:
        return False
    strike = float(f"{match[5]}.{match[6] or 0}")
    said = (row.get("underlying"), row.get("expiry"), row.get("right"), row.get("settlement"))
    own = number(row, "strike")
    return said == (match[1], expiry, match[7], "coin") and own is not None and abs(own - strike) <= 1e-9 * strike


def duplicates(quotes: list[Row], believed: set[int]) -> list[int]:
    """All but the best of the rows of one identity."""
    groups: dict[tuple[object, ...], list[int]] = {}
    for i, row in enumerate(quotes):
        groups.setdefault(tuple(row.get(name) for name in ("snapshot", "instrument", "source", "region")), []).append(i)

    def goodness(i: int) -> tuple[object, ...]:
        row = quotes[i]
        sides = (number(row, "bid") is not None) + (number(row, "ask") is not None)
        ts = row["ts"].timestamp() if isinstance(row.get("ts"), dt.datetime) else -math.inf
        return (i in believed, sides, number(row, "mark") is not None, ts, -i)

    return [i for members in groups.values() for i in members if i != max(members, key=goodness)]


def backwards(quotes: list[Row], believed: list[int]) -> list[int]:
    """Rows known no later than an accepted row of an earlier snapshot of the same instrument and harvester."""
    found: list[int] = []
    for i in sorted(believed, key=lambda i: quotes[i]["snapshot"]):  # type: ignore[arg-type, return-value]
        mine = quotes[i]
        earlier = [
            quotes[j]["ts"]
            for j in believed
            if j not in found
            and all(quotes[j][n] == mine[n] for n in ("instrument", "source", "region"))
            and quotes[j]["snapshot"] < mine["snapshot"]  # type: ignore[operator]
        ]
        if earlier and mine["ts"] <= max(earlier):  # type: ignore[operator, type-var]
            found.append(i)
    return found


def chains(quotes: list[Row], believed: list[int]) -> list[list[int]]:
    """Believed rows by harvester, snapshot, family and expiry; by strike, puts first, within."""
    groups: dict[tuple[object, ...], list[int]] = {}
    for i in believed:
        groups.setdefault(tuple(quotes[i][n] for n in ("source", "region", "snapshot", "underlying", "expiry")), []).append(i)
    return [sorted(group, key=lambda i: (quotes[i]["strike"], quotes[i]["right"] == "C")) for group in groups.values()]


def fitted_smile(quotes: list[Row], group: list[int]) -> tuple[list[float], list[float]] | None:
    """Tukey-weighted cubic of ln IV in arctan(moneyness / spread), by numpy's least squares."""
    x, y, use = [], [], []
    for i in group:
        forward = number(quotes[i], "forward") or number(quotes[i], "index")
        x.append(math.log(quotes[i]["strike"] / forward))  # type: ignore[operator]
        vol = number(quotes[i], "mark_iv")
        use.append(vol is not None and vol > 0)
        y.append(math.log(vol) if vol else math.nan)
    if sum(use) < 7:
        return None
    moneyness, target, mask = np.array(x), np.array(y), np.array(use)
    u = np.arctan(moneyness / max(np.mean(np.abs(moneyness[mask])), 1e-4))
    powers = np.vander(u, 4, increasing=True)
    off = np.abs(target[mask] - np.median(target[mask]))
    weight = np.where(off > 4 * max(1.4826 * np.median(off), 0.05), 0.05, 1.0)
    for turn in range(12):  # a line first, a parabola, then the cubic; a scale not taken for small before it can be trusted
        root, order = np.sqrt(weight), min(2 + turn // 3, 4)
        low = np.linalg.lstsq(powers[mask][:, :order] * root[:, None], target[mask] * root, rcond=None)[0]
        beta = np.append(low, np.zeros(4 - order))
        off = np.abs(target[mask] - powers[mask] @ beta)
        spread = max(1.4826 * np.median(off), 0.08 * 0.4**turn, 1e-4)
        weight = np.where(off < 4.685 * spread, (1 - (off / (4.685 * spread)) ** 2) ** 2, 0.0)
    fitted = np.exp(powers @ beta)
    return list(fitted), list(fitted * spread)


def outliers(quotes: list[Row], group: list[int], s: QualitySettings) -> list[int]:
    """Rows far from the fitted smile and from their neighbours."""
    if len({quotes[i]["strike"] for i in group if number(quotes[i], "mark_iv") is not None}) < 7:
        return []
    fit = fitted_smile(quotes, group)
    if fit is None or not any(far_from_window(quotes, group, at, s) for at in range(len(group))):
        return []
    found = []
    for i, fitted, scale in zip(group, *fit, strict=True):
        vol = number(quotes[i], "mark_iv")
        if vol is None:
            continue
        outside = outside_span(quotes, group, i)
        apart = abs(vol - fitted) >= s.smile_z * scale and outside >= 0.5 * s.smile_points
        twins = [
            (v, f)
            for j, f in zip(group, fit[0], strict=True)
            if j != i and quotes[j]["strike"] == quotes[i]["strike"] and (v := number(quotes[j], "mark_iv"))
        ]
        wilder = any(abs(vol - v) >= s.smile_points and abs(vol - fitted) >= abs(v - f) for v, f in twins)
        if abs(vol - fitted) >= s.smile_points and (apart or outside >= s.smile_points or wilder):
            found.append(i)
    return found


def far_from_window(quotes: list[Row], group: list[int], at: int, s: QualitySettings) -> bool:
    """Whether a row is half of `smile_points` from the median of the four rows on either side."""
    vol = number(quotes[group[at]], "mark_iv")
    around = [number(quotes[i], "mark_iv") for i in (*group[max(0, at - 4) : at], *group[at + 1 : at + 5])]
    given = [v for v in around if v is not None]
    return vol is not None and bool(given) and abs(vol - statistics.median(given)) >= 0.5 * s.smile_points


def outside_span(quotes: list[Row], group: list[int], i: int) -> float:
    """Distance from the IVs of the two nearest other strikes on either side (their line, for the outermost strike)."""
    by_strike: dict[float, list[float]] = {}
    for j in group:
        if (vol := number(quotes[j], "mark_iv")) is not None:
            by_strike.setdefault(float(quotes[j]["strike"]), []).append(vol)  # type: ignore[arg-type]
    mine, vol = float(quotes[i]["strike"]), number(quotes[i], "mark_iv") or 0.0  # type: ignore[arg-type]
    below = sorted((k for k in by_strike if k < mine), reverse=True)[:2]
    above = sorted(k for k in by_strike if k > mine)[:2]
    if len(below) + len(above) < 2:
        return 0.0
    span = [statistics.fmean(by_strike[k]) for k in (*below, *above)]
    if not below or not above:
        near, far = below or above
        slope = (statistics.fmean(by_strike[far]) - statistics.fmean(by_strike[near])) / math.log(far / near)
        span.append(statistics.fmean(by_strike[near]) + slope * math.log(mine / near))
    outside = max(min(span) - vol, vol - max(span), 0.0)
    return outside if below and above else outside / 2


def arbitrage(quotes: list[Row], group: list[int], s: QualitySettings) -> list[int]:
    """Rows to leave out, one by one, until no pair or triple of executable quotes wins."""
    fit = fitted_smile(quotes, group)
    fair: dict[int, float] = {}
    for at, i in enumerate(group):
        row = quotes[i]
        forward, mark = number(row, "forward"), number(row, "mark")
        if fit is not None and forward is not None:
            years = max((row["expiry"] - row["ts"]).total_seconds(), 0) / (365 * 86_400)  # type: ignore[operator]
            fair[i] = coin_price_scalar(forward, row["strike"], years, fit[0][at], row["right"] == "C")
        elif mark is not None:
            fair[i] = mark
    left, found = list(group), []
    while trade := best_trade(quotes, left, fair, s):
        left.remove(trade)
        found.append(trade)
    return found


def best_trade(quotes: list[Row], group: list[int], fair: dict[int, float], s: QualitySettings) -> int | None:
    """The row to blame for the most profitable trade, or None where there is none."""
    worst, culprit = 0.0, None

    def take(gain: float, limit: float, sells: list[int], buys: list[int]) -> None:
        nonlocal worst, culprit
        if gain <= limit + 1e-12 or gain <= worst:
            return
        off = [(quotes[i]["bid"] - fair.get(i, math.nan), i) for i in sells] + [(fair.get(i, math.nan) - quotes[i]["ask"], i) for i in buys]  # type: ignore[operator]
        best = off[0]
        for other in off[1:]:
            if other[0] > best[0]:
                best = other
        worst, culprit = gain, best[1]

    for right in ("C", "P"):
        asks = [i for i in group if quotes[i]["right"] == right and number(quotes[i], "ask") is not None]
        for i in group:
            if quotes[i]["right"] != right or (bid := number(quotes[i], "bid")) is None:
                continue
            cost, legs = cheapest_cover(quotes, asks, i, right)
            take(bid - cost, s.arbitrage_coin, [i], legs)
    for i in group:
        ask, forward = number(quotes[i], "ask"), number(quotes[i], "forward")
        if forward is None:
            continue
        worth = 1 - float(quotes[i]["strike"]) / forward  # type: ignore[arg-type]
        if ask is not None:
            take((worth if quotes[i]["right"] == "C" else -worth) - ask, s.parity_coin, [], [i])
        for j in group:
            if quotes[i]["right"] != "C" or quotes[j]["right"] != "P" or quotes[i]["strike"] != quotes[j]["strike"]:
                continue
            other = number(quotes[j], "forward")
            if other is None:
                continue
            parted = 1 - float(quotes[i]["strike"]) / ((forward + other) / 2)  # type: ignore[arg-type]
            sides = {n: number(quotes[k], n[1:]) for n, k in (("cbid", i), ("cask", i), ("pbid", j), ("pask", j))}
            if sides["cbid"] is not None and sides["pask"] is not None:
                take(sides["cbid"] - sides["pask"] - parted, s.parity_coin, [i], [j])
            if sides["cask"] is not None and sides["pbid"] is not None:
                take(parted - sides["cask"] + sides["pbid"], s.parity_coin, [j], [i])
    return culprit


def cheapest_cover(quotes: list[Row], asks: list[int], i: int, right: str) -> tuple[float, list[int]]:
    """The least anybody pays at the ask for something that pays at least what option i does."""
    x = float(quotes[i]["strike"])  # type: ignore[arg-type]
    points = [(0.0, 1.0 if right == "C" else 0.0, [])] + [(float(quotes[a]["strike"]), float(quotes[a]["ask"]), [a]) for a in asks]  # type: ignore[arg-type]
    best: tuple[float, list[int]] = (1.0, []) if right == "C" else (math.inf, [])
    for k, price, legs in points[1:]:
        if (k <= x if right == "C" else k >= x) and price < best[0]:
            best = (price, legs)
    for k1, p1, legs1 in points:
        for k2, p2, legs2 in points:
            if k1 < x < k2 and (value := p1 + (x - k1) / (k2 - k1) * (p2 - p1)) < best[0] - 1e-15:
                best = (value, [*legs1, *legs2])
    return best
