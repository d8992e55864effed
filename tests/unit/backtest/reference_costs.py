"""The slow reference's costs: fees of the time, margin, delivery, funding, and the price of a fill. Written from docs/engine.md."""

from __future__ import annotations

import datetime as dt
import itertools
import math
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any

from tests.unit.backtest.reference_book import Fill, Row, mid, positive

#: Everything the exchange takes, by the day it takes it from.
FEES: dict[str, dict[str, float]] = {
    "2016-01-01": {
        "taker": 0.0004, "maker": 0.0004, "cap": 0.20, "linear": 0.0003, "linear_cap": 0.125, "linear_delivery": 0.00015, "combo": 0,
        "delivery": 0.0002, "delivery_cap": 0.20, "perpetual": 0.00075, "liquidation": 0.003,
    },
    "2019-03-01": {
        "taker": 0.0004, "maker": 0.0004, "cap": 0.125, "linear": 0.0003, "linear_cap": 0.125, "linear_delivery": 0.00015, "combo": 0,
        "delivery": 0.0002, "delivery_cap": 0.125, "perpetual": 0.00075, "liquidation": 0.002,
    },
    "2020-01-01": {
        "taker": 0.0003, "maker": 0.0003, "cap": 0.125, "linear": 0.0003, "linear_cap": 0.125, "linear_delivery": 0.00015, "combo": 0,
        "delivery": 0.00015, "delivery_cap": 0.125, "perpetual": 0.0005, "liquidation": 0.0019,
    },
    "2022-08-18": {
        "taker": 0.0003, "maker": 0.0003, "cap": 0.125, "linear": 0.0003, "linear_cap": 0.125, "linear_delivery": 0.00015, "combo": 1,
        "delivery": 0.00015, "delivery_cap": 0.125, "perpetual": 0.0005, "liquidation": 0.0019,
    },
    "2026-08-01": {
        "taker": 0.0003, "maker": 0.0003, "cap": 0.125, "linear": 0.0003, "linear_cap": 0.125, "linear_delivery": 0.00015, "combo": 1,
        "delivery": 0.00015, "delivery_cap": 0.125, "perpetual": 0.0005, "liquidation": 0.01,
    },
}  # fmt: skip
NO_FEES = {"2000-01-01": dict.fromkeys(FEES["2016-01-01"], 0.0)}
PERPETUAL_INITIAL, PERPETUAL_MAINTENANCE = 0.02, 0.01
LOT = {"BTC": 0.1, "ETH": 1.0, "BTC_USDC": 0.01}
TICK = 0.0001  # coin
HEDGE_LOT = {"BTC": 10.0, "ETH": 1.0, "BTC_USDC": 0.001}


def fees_of(table: dict[str, dict[str, float]], at: dt.datetime) -> dict[str, float]:
    """What is in force at a time; the first version before all."""
    days = sorted(table)
    return table[max((d for d in days if d <= f"{at:%Y-%m-%d}"), default=days[0])]


def contract_fee(fees: dict[str, float], price: float, *, maker: bool, linear: bool, index: float) -> float:
    """Of one contract, in the options' currency."""
    if linear:
        return min(fees["linear"] * index, fees["linear_cap"] * price)
    return min(fees["maker" if maker else "taker"], fees["cap"] * price)


def structure_fees(fees: dict[str, float], trades: list[tuple[bool, float, Fill]], *, linear: bool, index: float) -> list[float]:
    """Fee of each leg that trades at once: (bought?, contracts, fill). The cheaper of bought and sold is free where combos are."""
    each = [contract_fee(fees, f.price, maker=f.maker, linear=linear, index=index) * contracts for _, contracts, f in trades]
    bought = sum(fee for fee, (buys, _, _) in zip(each, trades, strict=True) if buys)
    sold = sum(fee for fee, (buys, _, _) in zip(each, trades, strict=True) if not buys)
    both = any(buys for buys, _, _ in trades) and not all(buys for buys, _, _ in trades)
    if not both or not fees["combo"]:
        return each
    free_is_bought = bought <= sold
    return [0.0 if buys == free_is_bought else fee for fee, (buys, _, _) in zip(each, trades, strict=True)]


def delivery_fee(fees: dict[str, float], expiry: dt.datetime, worth: float, *, linear: bool, price: float) -> float:
    """Of one contract; expiries of other days than Friday are dailies and deliver free."""
    if expiry.weekday() != 4:
        return 0.0
    if linear:
        return min(fees["linear_delivery"] * price, fees["linear_cap"] * worth)
    return min(fees["delivery"], fees["delivery_cap"] * worth)


def payoff(right: str, strike: float, price: float, *, linear: bool) -> float:
    """Of one contract at a delivery price, in the options' currency."""
    inside = max(price - strike if right == "C" else strike - price, 0.0)
    return inside if linear else inside / price


def delivery_price(expiry: dt.datetime, prices: list[Row], window: int, reach: int) -> tuple[float | None, dt.datetime, str]:
    """Price, when it was known, and how it was found: the exchange's own where it came within the hour, else from other prices."""
    own = [p for p in prices if p["kind"] == "delivery" and dt.timedelta(0) <= p["ts"] - expiry <= dt.timedelta(hours=1)]
    if own:
        first = min(own, key=lambda p: p["ts"])
        return first["price"], first["ts"], "delivery_price"
    prices = [p for p in prices if p["kind"] != "delivery"]
    opens = expiry - dt.timedelta(minutes=window)
    inside = [p for p in prices if p["kind"] == "index" and opens < p["ts"] <= expiry]
    times = [opens, *(p["ts"] for p in inside), expiry]
    gaps = [later - earlier for earlier, later in itertools.pairwise(times)]
    if len(inside) >= 3 and max(gaps) <= dt.timedelta(minutes=11):
        return sum(p["price"] for p in inside) / len(inside), expiry, "index_30m_average"
    if not prices:
        return None, expiry, "none"
    nearest = min(prices, key=lambda p: (abs(p["ts"] - expiry), p["ts"]))
    distance = abs(nearest["ts"] - expiry)
    return nearest["price"], expiry + distance, "nearest_price" if distance <= dt.timedelta(minutes=reach) else "too_far"


def funding_between(funding: list[dict[str, Any]], start: dt.datetime, end: dt.datetime) -> float:
    """Share of the notional that a long pays from `start` to `end`: each rate holds until the next, at most nine hours."""
    total = 0.0
    for n, known in enumerate(funding):
        until = known["ts"] + dt.timedelta(hours=9)
        if n + 1 < len(funding):
            until = min(until, funding[n + 1]["ts"])
        overlap = (min(until, end) - max(known["ts"], start)) / dt.timedelta(hours=8)
        if overlap > 0:
            total += known["rate_8h"] * overlap
    return total


def margins(right: str, strike: float, forward: float, mark: float, *, linear: bool) -> tuple[float, float]:
    """Initial and maintenance margin of one sold contract (the exchange's standard margin), in the options' currency."""
    out = max(strike - forward, 0.0) if right == "C" else max(forward - strike, 0.0)
    one = forward if linear else 1.0
    initial = max(0.15 * one - (out if linear else out / forward), 0.10 * one) + mark
    if right == "C":
        return initial, 0.075 * one + mark
    maintenance = max(0.075 * one, 0.075 * mark) + mark
    return max(initial, maintenance), maintenance


@lru_cache
def documented_spreads() -> list[list[float]]:
    """The table of docs/slippage.md, shares of the mark: a line a range of days, a column a range of deltas."""
    lines = (Path(__file__).parents[3] / "docs" / "slippage.md").read_text(encoding="utf-8").splitlines()
    first = next(n for n, line in enumerate(lines) if line.startswith("| under 1 days"))
    return [[float(cell.strip(" %")) / 100 for cell in line.split("|")[2:-1]] for line in lines[first : first + 6]]


def model_spread(days: float, delta: float, mark: float) -> float:
    """The whole spread that the documented model gives a quote, coin; never under a tick."""
    row = sum(days >= edge for edge in (1, 3, 10, 35, 100))
    column = sum(delta >= edge for edge in (0.05, 0.1, 0.2, 0.35, 0.65))
    return max(documented_spreads()[row][column] * mark, 0.0001 if mark <= 0.005 else 0.0005)


def between(row: Row, share: float, *, buying: bool) -> float:
    """The mid of two quotes, and this share of the way to the side needed: 1 is that side, -1 the other, to the last bit."""
    need, other = (row["ask"], row["bid"]) if buying else (row["bid"], row["ask"])
    middle = (row["bid"] + row["ask"]) / 2
    price: float = need if share == 1 else other if share == -1 else middle + (need - middle) * share
    return price


class Prices:
    """What a fill costs under the settings of the play."""

    def __init__(self, settings: dict[str, Any], spread: Callable[[float, float, float], float] | None, *, linear: bool):
        self.settings, self.spread, self.linear = settings, spread, linear

    def fill(self, row: Row | None, *, buying: bool, now: dt.datetime, index: float, contracts: float | None = None) -> Fill | None:
        """Price at which contracts (None: without impact) are traded by crossing; None: no fill."""
        if row is None:
            return None
        need, size = (row["ask"], row["ask_size"]) if buying else (row["bid"], row["bid_size"])
        if not positive(need):
            return self._modelled(row, buying=buying, now=now, index=index)
        if mid(row) is None:
            return Fill(need)
        share = self.settings["crossing"]
        if contracts is not None:
            depth = size if positive(size) else self.settings["assumed_depth"]
            share += self.settings["impact"] * (contracts / depth) ** self.settings["impact_power"]
        price = between(row, share, buying=buying)
        return Fill(price) if price > 0 else None

    def _modelled(self, row: Row, *, buying: bool, now: dt.datetime, index: float) -> Fill | None:
        if self.settings["missing_quotes"] != "model" or not positive(row["mark"]) or self.spread is None:
            return None
        unit = index if self.linear else 1.0
        days = (row["expiry"] - now) / dt.timedelta(days=1)
        half = self.spread(days, abs(row["delta"] or 0.0), row["mark"] / unit) * unit / 2
        if buying:
            return Fill(row["mark"] + half, model=True)
        price = row["mark"] - half
        return Fill(price, model=True) if price >= TICK * unit else None

    def limit(self, row: Row, *, buying: bool) -> tuple[float, float] | None:
        """Where a resting order is posted, and the queue before it; None without the side needed: models do not rest."""
        need, touch = (row["ask"], row["bid_size"]) if buying else (row["bid"], row["ask_size"])
        if not positive(need):
            return None
        price = need if mid(row) is None else between(row, self.settings["maker_place"], buying=buying)
        return price, touch if positive(touch) else self.settings["assumed_depth"]

    def chance(self, queue: float, hours: float) -> float:
        """That a resting order is filled within so many hours, behind so long a queue."""
        pace = self.settings["maker_rate"] / (1 + queue / self.settings["maker_queue_scale"])
        return 1 - math.exp(-pace * hours)
