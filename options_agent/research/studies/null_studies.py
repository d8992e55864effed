"""Studies whose truth is known: markets without an edge, with one planted, and P&L made a fair game.

What a verdict finds there is its error or its power, of trials drawn at random over several structures, or searched as a study searches:
by a proposer that learns, about one strategy.
"""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from options_agent.backtest.bootstrap import indices
from options_agent.backtest.grid import configurations
from options_agent.backtest.history import history_from_table
from options_agent.backtest.metrics.grid import midnights
from options_agent.backtest.sweep import play_points
from options_agent.backtest.sweep_summary import SUMMARY
from options_agent.contracts import format_date
from options_agent.market.synthetic.source import SyntheticSource
from options_agent.quotes import UTC_US
from options_agent.research.studies.space import Parameter, SearchSpace
from options_agent.research.studies.verdict import Verdict, verdict
from options_agent.series import PRICE_SCHEMA
from options_agent.settings import BacktestSettings, Settings, SyntheticSettings
from options_agent.strategies.catalogue import strategy

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from options_agent.backtest.grid import Configuration
    from options_agent.backtest.history import History

    Floats = NDArray[np.float64]

#: The market opens on 2019-01-01 far below its long-run level and is pulled up; a year later that is spent.
FIRST: Final = dt.datetime(2020, 3, 1, tzinfo=dt.UTC)
DAYS: Final = 120
HOURS: Final = 24
#: Days to expiry beyond which nothing is kept.
NEAR_DAYS: Final = 45
TRIALS: Final = 20
#: Both sides of the index, so that its drift pays none of them as a rule: sold volatility, with and without wings.
PLAYED: Final = ("short_strangle", "short_straddle", "iron_condor", "put_credit_spread", "call_credit_spread")
#: Trials of a search about one strategy, asked for so many at once, and its space.
SEARCHED: Final = 60
BATCH: Final = 10
SPACE: Final = SearchSpace(
    (
        Parameter("legs.sold.target", "float", 0.12, 0.42, 0.01),
        Parameter("entry.days", "float", 4.0, 15.0, 0.5),
        Parameter("exit.take_profit", "choice", values=(0.3, 0.5, 0.7, 0.9, None)),
        Parameter("exit.stop_loss", "choice", values=(1, 2, 3, None)),
    )
)
#: Prices at mid, no fees: what is left has no cost that would make the null merely losing.
FREE: Final[dict[str, Any]] = {"crossing": 0.0, "fee_schedule": "none"}


@dataclass(frozen=True, slots=True)
class Played:
    """Trials of a study: `returns` (days, trials) in coin, `at` (days,), `statuses`, and the mean life of a trade in days."""

    returns: Floats
    at: NDArray[np.int64]
    statuses: tuple[str, ...]
    life: float

    def verdict(self, **options: Any) -> Verdict:
        """Its verdict."""
        return verdict(self.returns, self.at, statuses=self.statuses, mean_life_days=self.life, **options)


def market(seed: int, premium: float, days: int = DAYS, hours: int = HOURS) -> History:
    """A stretch of the synthetic market without defects or outages, in memory. `premium`: implied less realised volatility, decimal."""
    settings = SyntheticSettings(seed=seed, volatility_premium=premium, defect_rate=0.0, outage_rate=0.0)
    source, end = SyntheticSource(settings, interval=dt.timedelta(hours=hours)), FIRST + dt.timedelta(days=days)
    day = dt.timedelta(days=1)
    quotes = pa.concat_tables([chain.filter(_near(chain)) for chain in source.snapshots("BTC", FIRST, end)])
    mark = f"synthetic {seed} {premium} {days} {hours}"  # the hash of the content costs as much as the rest
    return history_from_table(quotes, source.prices("BTC", FIRST - day, end + day), underlying="BTC", mark=mark)


def _near(chain: pa.Table) -> pa.ChunkedArray:
    """Contracts that `PLAYED` could pick: the rest of the chain costs time only."""
    return pc.less(chain["expiry"], pc.add(chain["ts"], pa.scalar(dt.timedelta(days=NEAR_DAYS))))


def fair_market(seed: int, days: int = DAYS) -> History:
    """A market in which every P&L in coin is a fair game to the last digit: what it finds without costs is false.

    The log of the index has drift, diffusion (a volatility of its own each seed) and downward normal jumps (Merton 1976). The drift makes
    the dollar's worth in coin a martingale, and options in coin are marked at their expectation under the very same law; the fills of
    `FREE` are at the mark, delivery is the index at 08:00. Small gains and rare large losses of sellers are there, the premium is not.
    """
    random = np.random.default_rng([seed, 4])
    vol, rate, jump, size = float(random.uniform(0.35, 0.7)), 12.0, -0.03, 0.04
    step = 1 / (365 * 24)
    drift = vol**2 / 2 + rate * (np.exp(-jump + size**2 / 2) - 1)
    hours = 24 * (days + 2)
    jumps = random.poisson(rate * step, hours)
    moves = (
        drift * step
        + vol * np.sqrt(step) * random.standard_normal(hours)
        + jump * jumps
        + size * np.sqrt(jumps) * random.standard_normal(hours)
    )
    path, start = 60_000.0 * np.exp(np.concatenate(([0.0], np.cumsum(moves)))), FIRST - dt.timedelta(days=1)
    chains = []
    listed: dict[dt.datetime, Floats] = {}
    for day in range(days):
        at, spot = FIRST + dt.timedelta(days=day), float(path[24 * (day + 1)])
        for week in range(1, 5):
            # Fridays at 08:00; strikes are set when a contract is first listed
            friday = (FIRST + dt.timedelta(days=day + (4 - at.weekday()) % 7 + 7 * (week - 1))).replace(hour=8)
            strikes = listed.setdefault(friday, np.round(spot * np.exp(np.linspace(-0.45, 0.45, 31)), -2))
            chains.append(_fair_chain(at, friday, spot, strikes, (vol, rate, jump, size)))
    stamps = [start + dt.timedelta(hours=hour) for hour in range(hours + 1)]
    same = {"underlying": "BTC", "kind": "index", "source": "fair"}
    prices = pa.table({"ts": pa.array(stamps, UTC_US), "price": path, **{name: [value] * len(stamps) for name, value in same.items()}})
    return history_from_table(
        pa.concat_tables(chains), prices.select(PRICE_SCHEMA.names).cast(PRICE_SCHEMA), underlying="BTC", mark=f"fair {seed} {days}"
    )


def _fair_chain(at: dt.datetime, expiry: dt.datetime, spot: float, strikes: Floats, law: tuple[float, float, float, float]) -> pa.Table:
    """Marks are expectations of the payoff in coin, over the number of jumps: given it, strike over index is lognormal."""
    from scipy.special import ndtr
    from scipy.stats import poisson

    vol, rate, jump, size = law
    years = (expiry - at) / dt.timedelta(days=365)
    count = np.arange(12)[:, None]
    weight = poisson.pmf(count, rate * years)
    variance = vol**2 * years + count * size**2
    # of strike over index at expiry: the diffusion alone leaves it where the jumps' compensation has it
    mean = strikes / spot * np.exp(-rate * years * (np.exp(-jump + size**2 / 2) - 1) + count * (-jump + size**2 / 2))
    above = np.log(mean) / np.sqrt(variance) + np.sqrt(variance) / 2
    below = above - np.sqrt(variance)
    calls = (weight * (ndtr(-below) - mean * ndtr(-above))).sum(axis=0)
    puts = (weight * (mean * ndtr(above) - ndtr(below))).sum(axis=0)
    delta = (weight * ndtr(-below)).sum(axis=0)
    mark = np.maximum(np.concatenate((calls, puts)), 1e-9)
    n, both = 2 * strikes.size, np.concatenate((strikes, strikes))
    names = [f"BTC-{format_date(expiry)}-{strike:.0f}-{right}" for right in "CP" for strike in strikes]
    return pa.table(
        {
            "ts": pa.array([at] * n, UTC_US),
            "snapshot": pa.array([at] * n, UTC_US),
            "instrument": names,
            "expiry": pa.array([expiry] * n, UTC_US),
            "strike": both,
            "right": ["C"] * strikes.size + ["P"] * strikes.size,
            "bid": 0.99 * mark,
            "ask": 1.01 * mark,
            "bid_size": np.full(n, 100.0),
            "ask_size": np.full(n, 100.0),
            "mark": mark,
            "mark_iv": np.full(n, np.sqrt(vol**2 + rate * (jump**2 + size**2))),
            "delta": np.concatenate((delta, delta - 1)),
            "forward": np.full(n, spot),
            "index": np.full(n, spot),
            "open_interest": np.full(n, 100.0),
        }
    )


def random_points(count: int, seed: int, settings: BacktestSettings) -> list[Configuration]:
    """Random sound configurations of `PLAYED`."""
    random, points = np.random.default_rng([seed, 1]), []
    for _ in range(count):
        name = str(random.choice(PLAYED))
        wanted: dict[str, list[Any]] = {
            "entry.hour_utc": [0],  # the only snapshot of a day is at midnight
            "entry.days": [float(random.integers(4, 15))],
            "exit.take_profit": [None if random.random() < 0.3 else float(random.uniform(0.3, 0.9))],
        }
        if name != "short_straddle":
            wanted["legs.sold.target"] = [float(random.uniform(0.15, 0.4))]
        points.append(configurations(strategy(name), settings, wanted).points[0])
    return points


def play(history: History, seed: int, trials: int = TRIALS, **costs: Any) -> Played:
    """Random trials on a market, at the settings' costs or those given."""
    settings = BacktestSettings(**costs)
    found = play_points(history, random_points(trials, seed, settings), workers=1)
    closed, life = found.table[:, SUMMARY.index("closed_trades")], found.table[:, SUMMARY.index("average_days_held")]
    statuses = tuple("ok" if c >= settings.min_trades else "inconclusive" for c in closed)
    at = midnights(np.ascontiguousarray(history.known_at))[1:]
    lived = life[np.isfinite(life)]
    return Played(np.ascontiguousarray(found.returns[0].T), at, statuses, float(lived.mean()) if lived.size else 1.0)


def search(history: History, who: str, sold: str, seed: int, trials: int = SEARCHED, **costs: Any) -> Played:
    """Trials that a proposer makes of one strategy, shown each round what came of the rounds before, as in a study; costs as `play`.

    Args:
        history: the market.
        who: `random` or `tpe`; sold: a strategy of the catalogue that sells by delta.
        seed: of what is proposed. trials: how many.
    """
    from options_agent.research.studies.proposals import SeenTrial, View
    from options_agent.research.studies.proposers import proposer

    settings, rules = BacktestSettings(**costs), strategy(sold)
    asked = proposer(who, rules, Settings(_env_file=None))
    seen: list[SeenTrial] = []
    returns: list[Floats] = []
    lives, rounds = [], 0
    while len(seen) < trials and rounds < trials:
        view = View(
            SPACE, (("sharpe_coin", "max"),), rules.in_words(), tuple(seen), remaining=trials - len(seen), seed=1_000 * seed + rounds
        )
        fresh = {SPACE.key(sound := SPACE.check(p.values)): sound for p in asked.propose(view, min(BATCH, trials - len(seen)))}
        taken, rounds = {SPACE.key(t.values) for t in seen}, rounds + 1
        made = [point for key, point in fresh.items() if key not in taken]
        if not made:
            continue
        points = [configurations(rules, settings, {"entry.hour_utc": [0]} | {k: [v] for k, v in point.items()}).points[0] for point in made]
        found = play_points(history, points, workers=1)
        returns += list(found.returns[0])
        lives += found.table[:, SUMMARY.index("average_days_held")].tolist()
        for point, row in zip(made, found.table, strict=True):
            sharpe = float(row[SUMMARY.index("sharpe_coin")])
            told = {"sharpe_coin": sharpe} if np.isfinite(sharpe) else {"closed_trades": float(row[SUMMARY.index("closed_trades")])}
            enough = row[SUMMARY.index("closed_trades")] >= settings.min_trades
            seen.append(SeenTrial(len(seen), point, "", "ok" if enough else "inconclusive", told, told))
    at = midnights(np.ascontiguousarray(history.known_at))[1:]
    return Played(np.ascontiguousarray(np.array(returns).T), at, tuple(t.status for t in seen), float(np.nanmean(lives)))


def flipped(played: Played, seed: int, block: int | None = None) -> Played:
    """The sign destroyed: each stretch of days (twice a trade's life) keeps or turns its sign by a fair coin, in all trials at once.

    Every trial's mean is then exactly 0 over the coins, whatever it was; dependence between trials, clusters of volatility and the
    course within a stretch are kept, the skew is not.
    """
    days = played.returns.shape[0]
    block = block or max(1, round(2 * played.life))
    random = np.random.default_rng([seed, 2])
    signs = np.repeat(random.choice([-1.0, 1.0], days // block + 2), block)[random.integers(0, block) :][:days]
    return Played(played.returns * signs[:, None], played.at, played.statuses, played.life)


def redrawn(played: Played, seed: int) -> Played:
    """The time destroyed: each trial less its own mean, then days drawn anew in blocks of a trade's life, the same days in all trials.

    The population drawn from has a mean of exactly 0 in every trial, and keeps skew, tails and dependence between trials; a draw may
    miss the crashes that pay for the rest, which is where naive tests of sellers fail.
    """
    days = played.returns.shape[0]
    order = indices(days, max(1.0, played.life), 1, np.random.default_rng([seed, 3]))[0]
    return Played((played.returns - played.returns.mean(axis=0))[order], played.at, played.statuses, played.life)


@cache
def interval(found: int, studies: int, confidence: float = 0.95) -> tuple[float, float]:
    """Clopper and Pearson's exact interval of a share."""
    from scipy.stats import binomtest

    low, high = binomtest(found, studies).proportion_ci(confidence, method="exact")
    return float(low), float(high)
