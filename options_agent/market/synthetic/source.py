"""Source `synthetic`: chains, index, DVOL and funding of the latent market, any range, a day in memory at a time."""

from __future__ import annotations

import datetime as dt
from functools import partial
from typing import TYPE_CHECKING, Final, Literal

import numpy as np
import pyarrow as pa

from options_agent.contracts import EXPIRY_TIME, option_name
from options_agent.errors import DataError
from options_agent.lake.receipts import fingerprint
from options_agent.market.sources import day_range, days_of
from options_agent.market.synthetic.defects import KINDS, InjectedDefect, outages, spoil, spoilt_kinds
from options_agent.market.synthetic.latent import COINS, GENESIS, STEP_MINUTES, STEPS, DayPath, LatentMarket
from options_agent.market.synthetic.listing import Board, Listings, board
from options_agent.market.synthetic.surface import at_the_money_variance, quote_rows
from options_agent.quotes import UTC_US, quote_table
from options_agent.series import DVOL_SCHEMA, FUNDING_SCHEMA, PRICE_SCHEMA

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from numpy.typing import NDArray

    from options_agent.settings import SyntheticSettings

GENERATOR_VERSION: Final = 4
DAY_US: Final = 86_400_000_000
STEP_US: Final = STEP_MINUTES * 60_000_000
#: A sweep answers a second after its grid time and takes a fifth of a second an expiry.
SWEEP_START_US: Final = 1_000_000
SWEEP_STEP_US: Final = 200_000
_VALUES: Final = (
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
    "open_interest",
    "volume_24h",
)
#: Root mean variance over the median level: expectations are of variance. Fitted, as the speeds in `surface`, to 240 simulated years.
_LEVEL_FACTOR: Final = 1.10
_VOL_CAP: Final = 2.5
_VOL_LEAST: Final = 0.05
#: Contracts that a bitcoin's worth of interest is, by coin.
_SCALE: Final = (1.0, 6.0)


class SyntheticSource:
    """The synthetic exchange. Equal settings give equal bytes, whatever range is asked and in whatever order."""

    name: str = "synthetic"
    network: Literal["synthetic"] = "synthetic"
    live: bool = True

    def __init__(
        self,
        settings: SyntheticSettings,
        *,
        interval: dt.timedelta = dt.timedelta(hours=1),
        live_interval: dt.timedelta = dt.timedelta(minutes=15),
        region: str = "local",
    ) -> None:
        self._settings = settings
        self._interval = interval
        self._live_interval = live_interval
        self._region = region
        self._market = LatentMarket(settings.seed)
        self._listings = {name: Listings(name, partial(self._spot_at_eight, coin)) for coin, name in enumerate(COINS)}
        self._listed: dict[str, tuple[dt.date, Board]] = {}

    def underlyings(self) -> tuple[str, ...]:
        """BTC and ETH."""
        return tuple(COINS)

    def span(self, underlying: str) -> tuple[dt.datetime, dt.datetime] | None:
        """None: the market has no end."""
        self._coin(underlying)
        return None

    def interval(self, underlying: str) -> dt.timedelta:
        """The grid of historical harvests."""
        self._coin(underlying)
        return self._interval

    def snapshots(self, underlying: str, start: dt.datetime, end: dt.datetime) -> Iterator[pa.Table]:
        """See `Source.snapshots`. Snapshots lost in an outage are not there."""
        coin = self._coin(underlying)
        for grid in self._grids(start, end, self._interval):
            kept = grid[~self._lost(coin, grid, self._interval)]
            yield from self._chains(underlying, kept)

    def latest(self, underlying: str, now: dt.datetime) -> pa.Table | None:
        """The snapshot of the last live grid time that is known at `now`."""
        self._coin(underlying)
        step = int(self._live_interval.total_seconds() * 1e6)
        known = _us(now) - SWEEP_START_US - SWEEP_STEP_US * 16
        return next(self._chains(underlying, np.array([known - known % step])), None)

    def prices(self, underlying: str, start: dt.datetime, end: dt.datetime) -> pa.Table:
        """The index every five minutes."""
        coin = self._coin(underlying)
        times, values = self._series(start, end, lambda path: path.spot[coin])
        return _series_table(PRICE_SCHEMA, times, underlying, {"price": values, "kind": ["index"] * times.size})

    def dvol(self, underlying: str, start: dt.datetime, end: dt.datetime) -> pa.Table:
        """The 30-day volatility index in hourly bars, each known at its close."""
        coin = self._coin(underlying)
        hour = dt.timedelta(hours=1)
        times, values = self._series(max(start - hour, day_range(GENESIS)[0]), end, lambda path: self._thirty_days(path, coin))
        closes = np.flatnonzero((times % 3_600_000_000 == 0) & (times >= _us(start)))
        bars = [values[max(i - 12, 0) : i + 1] for i in closes]  # from the last bar's close to this one's
        columns = {"open": [b[0] for b in bars], "high": [b.max() for b in bars], "low": [b.min() for b in bars], "close": values[closes]}
        return _series_table(DVOL_SCHEMA, times[closes], underlying, columns)

    def funding(self, underlying: str, start: dt.datetime, end: dt.datetime) -> pa.Table:
        """Funding every eight hours, from the slope of the forward curve."""
        self._coin(underlying)
        times, values = self._series(start, end, lambda path: path.basis)
        eight = times % (8 * 3_600_000_000) == 0
        return _series_table(FUNDING_SCHEMA, times[eight], underlying, {"rate_8h": values[eight] / (3 * 365)})

    def fingerprint(self, underlying: str, start: dt.datetime, end: dt.datetime) -> str:
        """From the settings, the generator's version and the range."""
        return fingerprint("synthetic", GENERATOR_VERSION, self._settings, self._interval, self._region, underlying, start, end)

    def injected_defects(self, underlying: str, start: dt.datetime, end: dt.datetime) -> list[InjectedDefect]:
        """Rows of the range that were spoilt on purpose."""
        coin, found = self._coin(underlying), []
        for grid in self._grids(start, end, self._interval):
            for at in grid[~self._lost(coin, grid, self._interval)]:
                listed = self._board(underlying, _time(at))
                kinds = self._kinds(listed, np.full(listed.key.size, at))
                names = self._relabelled(underlying, int(at), listed, kinds)[0]
                found += [InjectedDefect(_time(at), names[i].as_py(), KINDS[kinds[i]]) for i in np.flatnonzero(kinds >= 0)]
        return found

    def lost_snapshots(self, underlying: str, start: dt.datetime, end: dt.datetime) -> list[dt.datetime]:
        """Grid times of the range whose snapshot an outage took."""
        coin = self._coin(underlying)
        return [_time(at) for grid in self._grids(start, end, self._interval) for at in grid[self._lost(coin, grid, self._interval)]]

    def _chains(self, underlying: str, grid: NDArray[np.int64]) -> Iterator[pa.Table]:
        """The chain of each grid time, priced a time at a time."""
        for at in grid:
            yield self._chain(underlying, int(at), self._board(underlying, _time(at)))

    def _chain(self, underlying: str, at: int, listed: Board) -> pa.Table:
        n, coin = listed.key.size, self._coin(underlying)
        path = self._market.day(_time(at).date())
        step = (at % DAY_US) // STEP_US
        index = round(float(path.spot[coin, step]), 2)
        ts = at + SWEEP_START_US + SWEEP_STEP_US * listed.sweep_order
        snapshot = np.full(n, at)
        values = np.empty((n, len(_VALUES)))
        quote_rows(
            np.uint64(self._settings.seed & (2**64 - 1)),
            at,
            index,
            self._expected(path.vol[coin, step], path.slow[coin, step], path.long[coin, step]),
            float(path.skew[step]),
            float(path.basis[step]),
            _SCALE[coin],
            ts,
            listed.expiry_us,
            listed.strike,
            listed.is_call,
            listed.key,
            self._settings.missing_bid,
            self._settings.missing_ask,
            values,
        )
        kinds = self._kinds(listed, snapshot)
        spoil(values, ts, kinds, int(self._interval.total_seconds() * 1e6))
        instrument, expiry = self._relabelled(underlying, at, listed, kinds)
        twice = np.flatnonzero(kinds == KINDS.index("duplicate"))
        rows = np.concatenate([np.arange(n), twice]) if twice.size else np.arange(n)
        columns: dict[str, object] = {
            "ts": _stamps(ts[rows]),
            "snapshot": _stamps(snapshot[rows]),
            "expiry": _stamps(expiry[rows]),
            "underlying": pa.repeat(underlying, rows.size),
            "instrument": instrument.take(pa.array(rows)),
            "strike": listed.strike[rows],
            "right": listed.right.take(pa.array(rows)),
            "settlement": pa.repeat("coin", rows.size),
            "index": np.full(rows.size, index),
            "source": pa.repeat(self.name, rows.size),
            "network": pa.repeat(self.network, rows.size),
            "region": pa.repeat(self._region, rows.size),
        }
        for position, name in enumerate(_VALUES):
            columns[name] = pa.array(values[rows, position], from_pandas=True)
        return quote_table(columns, place=f"synthetic {underlying} {_time(at).isoformat()}")

    def _kinds(self, listed: Board, snapshot: NDArray[np.int64]) -> NDArray[np.int64]:
        seed = np.uint64(self._settings.seed & (2**64 - 1))
        return spoilt_kinds(seed, listed.key, snapshot, self._settings.defect_rate, len(KINDS))

    def _relabelled(self, underlying: str, at: int, listed: Board, kinds: NDArray[np.int64]) -> tuple[pa.Array, NDArray[np.int64]]:
        """Names and expiries of the rows: those with the defect `expired` are sold as of the expiry that was last settled."""
        late = np.flatnonzero(kinds == KINDS.index("expired"))
        if not late.size:
            return listed.instrument, listed.expiry_us
        settled = dt.datetime.combine((_time(at) - dt.timedelta(hours=8)).date(), EXPIRY_TIME)
        names, expiry = listed.instrument.to_pylist(), listed.expiry_us.copy()
        for i in late:
            names[i] = option_name(underlying, settled, float(listed.strike[i]), "C" if listed.is_call[i] else "P")
            expiry[i] = _us(settled)
        return pa.array(names), expiry

    def _board(self, underlying: str, at: dt.datetime) -> Board:
        """Contracts listed at a time; they change at 08:00 only."""
        day, kept = (at - dt.timedelta(hours=8)).date(), self._listed.get(underlying)
        if kept is None or kept[0] != day:
            kept = self._listed[underlying] = (day, board(self._listings[underlying].contracts(at)))
        return kept[1]

    def _series(
        self, start: dt.datetime, end: dt.datetime, of: Callable[[DayPath], NDArray[np.float64]]
    ) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        times, values = [np.empty(0, np.int64)], [np.empty(0)]
        for day in days_of(start, end):
            stamps = _us(day_range(day)[0]) + STEP_US * np.arange(STEPS)
            inside = (stamps >= _us(start)) & (stamps < _us(end))
            times.append(stamps[inside])
            values.append(np.asarray(np.round(of(self._market.day(day))[inside], 6), dtype=np.float64))
        return np.concatenate(times), np.concatenate(values)

    def _expected(self, now: float, level: float, long: float) -> tuple[float, float, float]:
        """Volatilities that options are priced on: now, these weeks, the long run; the premium is in each."""
        premium = self._settings.volatility_premium
        capped = min(now, _VOL_CAP), min(_LEVEL_FACTOR * level, _VOL_CAP), long
        return max(capped[0] + premium, _VOL_LEAST), max(capped[1] + premium, _VOL_LEAST), max(capped[2] + premium, _VOL_LEAST)

    def _thirty_days(self, path: DayPath, coin: int) -> NDArray[np.float64]:
        years = 30 / 365
        states = zip(path.vol[coin], path.slow[coin], path.long[coin], strict=True)
        return np.array([np.sqrt(at_the_money_variance(*self._expected(*state), years) / years) for state in states])

    def _grids(self, start: dt.datetime, end: dt.datetime, interval: dt.timedelta) -> Iterator[NDArray[np.int64]]:
        """Grid times of the range, a day at a time; the grid starts at midnight UTC."""
        step = int(interval.total_seconds() * 1e6)
        for day in days_of(start, end):
            midnight = _us(day_range(day)[0])
            grid = np.arange(midnight + (-midnight) % step, midnight + DAY_US, step, dtype=np.int64)
            yield grid[(grid >= _us(start)) & (grid < _us(end))]

    def _lost(self, coin: int, grid: NDArray[np.int64], interval: dt.timedelta) -> NDArray[np.bool_]:
        return outages(self._settings.seed, coin, grid, int(interval.total_seconds() * 1e6), self._settings.outage_rate)

    def _spot_at_eight(self, coin: int, day: dt.date) -> float:
        return float(self._market.day(max(day, GENESIS)).spot[coin, 8 * 60 // STEP_MINUTES])

    def _coin(self, underlying: str) -> int:
        if underlying not in COINS:
            raise DataError(f"the synthetic market has no {underlying!r}", remedy=f"one of {', '.join(COINS)}")
        return list(COINS).index(underlying)


def _series_table(schema: pa.Schema, times: NDArray[np.int64], underlying: str, columns: dict[str, object]) -> pa.Table:
    everything = {"ts": _stamps(times), "underlying": [underlying] * times.size, "source": ["synthetic"] * times.size, **columns}
    return pa.Table.from_arrays([pa.array(everything[f.name]).cast(f.type) for f in schema], schema=schema)


def _stamps(values: NDArray[np.int64]) -> pa.Array:
    return pa.array(values, pa.int64()).cast(pa.timestamp("us")).cast(UTC_US)


def _us(at: dt.datetime) -> int:
    if at.tzinfo is None:
        raise DataError(f"{at} is a naive time", remedy="pass UTC-aware times")
    return round((at - dt.datetime(1970, 1, 1, tzinfo=dt.UTC)) / dt.timedelta(microseconds=1))


def _time(at: int | np.integer) -> dt.datetime:
    return dt.datetime(1970, 1, 1, tzinfo=dt.UTC) + dt.timedelta(microseconds=int(at))
