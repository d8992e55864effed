"""What an account may and may not do: cash, fees, capital and time are accounted for to the last coin."""

from __future__ import annotations

import datetime as dt
import math
from collections import defaultdict
from functools import lru_cache
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from options_agent.backtest.engine import run_backtest
from options_agent.backtest.history import COLUMNS, history_from_table
from options_agent.backtest.metrics import max_drawdown, sharpe
from options_agent.backtest.result import BacktestResult
from options_agent.errors import DataError, SettingsError
from options_agent.series import PRICE_SCHEMA
from options_agent.settings import BacktestSettings
from options_agent.strategies.catalogue import CATALOGUE, strategy
from options_agent.strategies.rules import Entry, Exit, Filters, Leg, Strategy
from tests.unit.backtest.worlds import HOUR, START, World, random_world, weekly, weekly_call, weekly_put

MONDAY = START + 8 * HOUR
FRIDAY = dt.datetime(2026, 1, 9, 8, tzinfo=dt.UTC)
CALL, PUT = "BTC-9JAN26-95000-C", "BTC-9JAN26-85000-P"
FAR = "BTC-27MAR26-200000-C"  # something to quote when nothing of interest is
MINUTE = dt.timedelta(minutes=1)


@lru_cache
def market(seed: int, hours: float) -> World:
    """A random market; a few seeds are enough and building one is slow."""
    return random_world(seed, hours=hours, snapshots=40)


seeds = st.integers(0, 7)
spacings = st.sampled_from([1.0, 6.0])
#: Those that need no regime and hold nothing but options; test_laws.py has the laws of the hedged ones.
PLAIN = sorted(name for name in CATALOGUE if not strategy(name).features and strategy(name).hedge is None)
catalogue = st.sampled_from(PLAIN).map(strategy)
fed = st.sampled_from(sorted(name for name in CATALOGUE if not strategy(name).features)).map(strategy)
latencies = st.sampled_from([0.0, 5 * 3600.0])


def delivered_at(world: World, expiry: dt.datetime, price: float) -> World:
    """Six index prices of the last half-hour that average `price`."""
    for n in range(6):
        world.price(expiry - 25 * MINUTE + 5 * n * MINUTE, price + (n - 2.5) * 200)
    return world


def sold_and_delivered(name: str, bid: float, delivery: float, *, expiry: dt.datetime = FRIDAY) -> World:
    """One quote to sell on Monday at an index of 90,000, and a snapshot four hours after the expiry."""
    world = World().quote(MONDAY, name, bid, bid + 0.002, index=90_000.0)
    world.quote(expiry + 4 * HOUR, FAR, 0.001, 0.002, index=delivery, delta=0.9)
    return delivered_at(world, expiry, delivery)


def only_trade(result: BacktestResult) -> dict[str, Any]:
    (trade,) = result.trades.to_pylist()
    return dict(trade)


def rolling_calls(days: int = 24) -> World:
    """Noon quotes of two weekly calls a day, flat at 0.010 to 0.012."""
    world = World()
    for day in range(days):
        at = START + dt.timedelta(days=day, hours=12)
        for week in range(6):
            expiry = FRIDAY + dt.timedelta(days=7 * week)
            if expiry > at:
                world.quote(at, f"BTC-{expiry.day}{expiry:%b}26-95000-C".upper(), 0.010, 0.012, index=90_000.0)
    for week in range(6):
        delivered_at(world, FRIDAY + dt.timedelta(days=7 * week), 90_000.0)
    return world


# Trades worked out by hand


def test_short_call_settles_to_the_delivery_price_in_coin() -> None:
    trade = only_trade(sold_and_delivered(CALL, 0.010, 100_000.0).play(weekly_call()))
    assert trade["payoff_coin"] == pytest.approx(5_000 / 100_000, abs=1e-12)
    assert trade["fees_coin"] == pytest.approx(0.0003 + 0.00015, abs=1e-12)
    assert trade["profit_coin"] == pytest.approx(0.010 - 0.05 - 0.00045, abs=1e-12)
    assert (trade["settlement"], trade["settlement_price"], trade["exit"]) == ("index_30m_average", 100_000.0, "settled")
    assert trade["closed_at"] == FRIDAY


@pytest.mark.parametrize("delivery", [94_000.0, 100_000.0])
def test_a_run_of_one_trade_returns_what_the_trade_made_its_opening_costs_too(delivery: float) -> None:
    result = sold_and_delivered(CALL, 0.010, delivery).play(weekly_call())
    assert result.equity["equity_coin"][0].as_py() < result.capital_coin  # sold below the mark, and a fee
    assert result.metrics["return_coin"] == pytest.approx(only_trade(result)["profit_coin"] / result.capital_coin, abs=1e-12)
    assert result.metrics["max_drawdown_coin"] >= 1 - result.equity["equity_coin"][0].as_py() / result.capital_coin


def test_short_put_settles_to_the_delivery_price_in_coin() -> None:
    result = sold_and_delivered(PUT, 0.008, 80_000.0).play(weekly_put())
    trade = only_trade(result)
    assert trade["payoff_coin"] == pytest.approx(5_000 / 80_000, abs=1e-12)
    assert trade["profit_coin"] == pytest.approx(0.008 - 0.0625 - 0.00045, abs=1e-12)
    last = result.equity.to_pylist()[-1]
    assert last["usd_cash"] == 90_000.0
    assert last["equity_usd"] == pytest.approx(90_000 + trade["profit_coin"] * 80_000, abs=1e-6)


@pytest.mark.parametrize(("name", "delivery"), [(CALL, 95_000.0), (CALL, 70_000.0), (PUT, 85_000.0), (PUT, 120_000.0)])
def test_an_option_that_expires_worthless_keeps_the_premium_and_pays_no_delivery_fee(name: str, delivery: float) -> None:
    play = weekly_call() if name == CALL else weekly_put()
    assert only_trade(sold_and_delivered(name, 0.010, delivery).play(play))["profit_coin"] == pytest.approx(0.010 - 0.0003, abs=1e-12)


def test_a_fee_is_never_more_than_an_eighth_of_the_price() -> None:
    assert only_trade(sold_and_delivered(CALL, 0.0010, 90_000.0).play(weekly_call()))["fees_coin"] == pytest.approx(0.000125, abs=1e-15)
    assert only_trade(sold_and_delivered(CALL, 0.0100, 90_000.0).play(weekly_call()))["fees_coin"] == pytest.approx(0.000300, abs=1e-15)


def test_a_delivery_fee_is_never_more_than_an_eighth_of_the_payoff() -> None:
    trade = only_trade(sold_and_delivered(CALL, 0.010, 95_050.0).play(weekly_call()))
    assert trade["fees_coin"] == pytest.approx(0.0003 + 0.125 * 50 / 95_050, abs=1e-12)


def test_dailies_deliver_free() -> None:
    wednesday = dt.datetime(2026, 1, 7, 8, tzinfo=dt.UTC)
    trade = only_trade(sold_and_delivered("BTC-7JAN26-95000-C", 0.010, 100_000.0, expiry=wednesday).play(weekly_call()))
    assert trade["payoff_coin"] == pytest.approx(0.05)
    assert trade["fees_coin"] == pytest.approx(0.0003, abs=1e-15)


def test_a_stop_buys_back_at_the_ask() -> None:
    world = World().quote(MONDAY, CALL, 0.010, 0.012, index=90_000.0).quote(MONDAY + 6 * HOUR, CALL, 0.028, 0.031, index=94_000.0)
    trade = only_trade(world.play(weekly_call(exit=Exit(stop_loss=2.0))))
    assert trade["closing_coin"] == pytest.approx(0.031)
    assert trade["profit_coin"] == pytest.approx(0.010 - 0.031 - 0.0006, abs=1e-12)


def test_a_take_profit_needs_the_ask_to_have_fallen_not_the_mark() -> None:
    world = World().quote(MONDAY, CALL, 0.010, 0.012, index=90_000.0)
    world.quote(MONDAY + 6 * HOUR, CALL, 0.002, 0.0055, index=90_000.0).quote(MONDAY + 12 * HOUR, CALL, 0.002, 0.005, index=90_000.0)
    trade = only_trade(world.play(weekly_call(exit=Exit(take_profit=0.5))))
    assert trade["closed_at"] == MONDAY + 12 * HOUR


def test_latency_fills_at_the_first_snapshot_after_it_at_that_snapshots_price() -> None:
    world = World()
    for n, bid in enumerate((0.010, 0.009, 0.007)):
        world.quote(MONDAY + n * HOUR, CALL, bid, bid + 0.002, index=90_000.0)
    fill = world.play(weekly_call(), latency_seconds=3_601).fills.to_pylist()[0]
    assert (fill["price"], fill["ts"]) == (0.007, MONDAY + 2 * HOUR)


def test_an_order_whose_quote_is_gone_when_it_is_due_is_cancelled() -> None:
    world = World().quote(MONDAY, CALL, 0.010, 0.012, index=90_000.0).quote(MONDAY + HOUR, CALL, None, 0.012, index=90_000.0)
    result = world.play(weekly_call(), latency_seconds=60)
    assert result.trades.num_rows == 0
    assert [(d["action"], d["reason"]) for d in result.decisions.to_pylist()][:2] == [("open", "entered"), ("cancel", "not_quoted")]


def test_a_far_price_settles_only_when_no_nearer_one_can_come_and_is_named() -> None:
    world = World().quote(MONDAY, CALL, 0.010, 0.012, index=90_000.0)
    for hours in (0.5, 1.5):
        world.quote(FRIDAY + hours * HOUR, FAR, 0.001, 0.002, index=100_000.0, delta=0.9)
    world.price(FRIDAY - HOUR, 100_000.0, "spot")
    result = world.play(weekly_call())
    trade = only_trade(result)
    assert (trade["settlement"], trade["settlement_minutes"], trade["closed_at"]) == ("nearest_price", 60.0, FRIDAY + HOUR)
    assert [e["open_positions"] for e in result.equity.to_pylist()] == [1, 1, 0]


@pytest.mark.parametrize(
    ("minutes", "method"), [((5, 15, 25, 30), "index_30m_average"), ((5, 10, 30), "nearest_price"), ((15, 30), "nearest_price")]
)
def test_the_average_needs_three_prices_and_no_gap_beyond_eleven_minutes(minutes: tuple[int, ...], method: str) -> None:
    world = World().quote(MONDAY, CALL, 0.010, 0.012, index=90_000.0)
    world.quote(FRIDAY + HOUR, FAR, 0.001, 0.002, index=100_000.0, delta=0.9)
    for minute in minutes:
        world.price(FRIDAY - 30 * MINUTE + minute * MINUTE, 100_000.0 + minute)
    trade = only_trade(world.play(weekly_call()))
    assert trade["settlement"] == method
    assert trade["settlement_price"] == pytest.approx(100_000 + (np.mean(minutes) if method == "index_30m_average" else 30))


# Laws of every account


@given(seeds, spacings, catalogue, latencies)
@hypothesis_settings(max_examples=15)
def test_the_ledger_sums_to_cash_and_with_the_options_to_equity_at_every_snapshot(
    seed: int, hours: float, play: Strategy, latency: float
) -> None:
    result = market(seed, hours).play(play, latency_seconds=latency, capital_coin=2.0)
    ledger, fills = result.ledger.to_pylist(), result.fills.to_pylist()
    for row in result.equity.to_pylist():
        cash = defaultdict(float)
        for entry in ledger:
            if entry["ts"] <= row["ts"]:
                cash[entry["currency"]] += entry["amount"]
        assert row["coin_cash"] == pytest.approx(cash["coin"], abs=1e-12)
        assert row["usd_cash"] == cash["usd"]
        assert row["equity_coin"] == pytest.approx(cash["coin"] + cash["usd"] / row["index"] + row["options_coin"], abs=1e-12)
        held = {f["trade"] for f in fills if f["kind"] == "open" and f["ts"] <= row["ts"]}
        held -= {f["trade"] for f in fills if f["kind"] != "open" and f["ts"] <= row["ts"]}
        assert row["open_positions"] == len(held)
        assert (row["options_coin"] != 0) <= bool(held)


@given(seeds, spacings, catalogue, latencies)
@hypothesis_settings(max_examples=10)
def test_trades_and_what_is_still_open_add_up_to_the_change_of_equity(seed: int, hours: float, play: Strategy, latency: float) -> None:
    result = market(seed, hours).play(play, latency_seconds=latency)
    profit = sum(t["profit_coin"] for t in result.trades.to_pylist())
    last = result.equity.to_pylist()[-1]
    converted = sum(row["swapped_coin"] for row in result.equity.to_pylist())  # a wheel's
    assert last["coin_cash"] - result.capital_coin == pytest.approx(profit + converted, abs=1e-12)
    assert sum(t["fees_coin"] for t in result.trades.to_pylist()) == pytest.approx(result.metrics["fees_coin"], abs=1e-12)


@given(seeds, spacings, st.integers(1, 4), st.sampled_from([0.35, 1.0]), st.sampled_from([1.0, 2.7]), latencies)
@hypothesis_settings(max_examples=15)
def test_what_is_sold_is_always_secured(seed: int, hours: float, max_open: int, share: float, capital: float, latency: float) -> None:
    entry = Entry(dte_min=0.0, dte_target=7, dte_max=12, hour_utc=0, max_open=max_open)
    exits, filters = Exit(take_profit=0.4, stop_loss=1.0), Filters(max_spread=2.0, delta_tolerance=0.3)
    for play in (weekly_call, weekly_put):
        result = market(seed, hours).play(
            play(entry=entry, exit=exits, filters=filters, share=share), capital_coin=capital, latency_seconds=latency
        )
        fills = result.fills.to_pylist()
        for row in result.equity.to_pylist():
            calls = cash = 0.0
            for fill in fills:
                if fill["ts"] <= row["ts"]:
                    calls -= fill["contracts"] if fill["instrument"].endswith("C") else 0.0
                    cash -= fill["contracts"] * float(fill["instrument"].split("-")[2]) if fill["instrument"].endswith("P") else 0.0
            assert calls <= max(row["coin_cash"], 0.0) + 1e-9
            assert cash <= row["usd_cash"] + 1e-3


@given(seeds, spacings, fed, latencies, st.floats(0.1, 0.9), st.integers(0, 99))
@hypothesis_settings(max_examples=15)
def test_what_comes_later_changes_nothing_of_what_was(
    seed: int, hours: float, play: Strategy, latency: float, part: float, chance: int
) -> None:
    world = market(seed, hours)
    known = world.history().known_at
    now = dt.datetime.fromtimestamp(int(known[int(part * known.size)]) / 1e6, dt.UTC) + dt.timedelta(microseconds=1)
    random = np.random.default_rng(chance)
    altered = World(
        world.underlying,
        [q if q["ts"] < now else _disturbed(q, random) for q in world.quotes if q["ts"] < now or random.random() < 0.8],
        [p if p["ts"] < now else p | {"price": p["price"] * 1.3} for p in world.prices if p["ts"] < now or random.random() < 0.8],
        [f if f["ts"] < now else f | {"rate_8h": -f["rate_8h"]} for f in world.funding if f["ts"] < now or random.random() < 0.8],
    )
    before, after = (w.play(play, latency_seconds=latency) for w in (world, altered))
    for name in ("fills", "decisions", "equity"):
        mine, other = ([r for r in getattr(b, name).drop_columns(_ids(name)).to_pylist() if r["ts"] < now] for b in (before, after))
        assert repr(mine) == repr(other)  # NaN is NaN


def _ids(name: str) -> list[str]:
    return {"fills": ["contract", "row"], "decisions": ["row"]}.get(name, [])  # numbers of rows and contracts depend on all that occur


def _disturbed(quote: dict[str, Any], random: np.random.Generator) -> dict[str, Any]:
    factor = float(random.uniform(0.3, 3.0))
    changes: dict[str, Any] = {n: quote[n] and quote[n] * factor for n in ("bid", "ask", "mark", "index")}
    return quote | changes | {"delta": float(random.uniform(-1, 1)), "open_interest": None}


@given(st.lists(st.floats(0.01, 1e6), min_size=1, max_size=60))
def test_a_drawdown_of_equity_is_never_beyond_all_of_it(equity: list[float]) -> None:
    assert 0 <= max_drawdown(np.array(equity)) <= 1


# Runs that support no number, and input that is refused


def test_too_few_trades_are_inconclusive_and_counted() -> None:
    result = sold_and_delivered(CALL, 0.010, 90_000.0).play(weekly_call())
    assert result.status == "inconclusive"
    assert "1 closed trades, at least 5 are needed" in result.status_reasons[0]
    assert sold_and_delivered(CALL, 0.010, 90_000.0).play(weekly_call(), min_trades=1).status == "ok"


def test_expiries_without_a_near_price_are_inconclusive() -> None:
    world = World().quote(MONDAY, CALL, 0.010, 0.012, index=90_000.0)
    world.quote(FRIDAY + 24 * HOUR, FAR, 0.001, 0.002, index=90_000.0, delta=0.9).price(FRIDAY - 4 * HOUR, 90_000.0)
    result = world.play(weekly_call(), min_trades=1)
    assert result.status == "inconclusive"
    assert "no price within 180 minutes" in result.status_reasons[0]


def test_an_expiry_without_any_price_is_inconclusive_not_forgotten() -> None:
    world = World().quote(MONDAY, CALL, 0.010, 0.012, index=90_000.0)
    world.quote(FRIDAY + 24 * HOUR, FAR, 0.001, 0.002, index=90_000.0, delta=0.9)
    result = world.play(weekly_call())
    assert any("were not settled" in reason for reason in result.status_reasons)


@pytest.mark.parametrize(
    "bad",
    [
        {"legs": ()},
        {"entry": Entry(dte_min=8, dte_target=7, dte_max=11)},
        {"entry": Entry(4, 7, 11, hour_utc=24)},
        {"entry": Entry(4, 7, 11, max_open=0)},
        {"legs": (Leg("sell", "C", 1.25),)},
        {"legs": (Leg("sell", "C", 0.25, ratio=0.0),)},
        {"share": 0.0},
        {"collateral": "cash"},
    ],
    ids=str,
)
def test_a_strategy_with_unsound_rules_is_refused(bad: dict[str, Any]) -> None:
    sound: dict[str, Any] = {"legs": (Leg("sell", "C", 0.25),), "entry": Entry(4, 7, 11)}
    with pytest.raises(SettingsError, match="not sound"):
        Strategy("bad", "bad", "bad", **(sound | bad))


def test_an_unknown_strategy_is_refused_with_the_names_there_are() -> None:
    with pytest.raises(SettingsError) as refused:
        strategy("iron_butterfly_of_dreams")
    assert "covered_call" in str(refused.value.remedy)


def test_an_unknown_fee_schedule_is_refused() -> None:
    with pytest.raises(SettingsError, match="fee schedule"):
        sold_and_delivered(CALL, 0.010, 90_000.0).play(weekly_call(), fee_schedule="generous")


def test_a_history_that_cannot_value_a_coin_is_refused() -> None:
    world = World().quote(MONDAY, CALL, 0.010, 0.012, index=90_000.0)
    world.quotes[0]["index"] = None
    with pytest.raises(DataError, match="no index"):
        world.play(weekly_call())


# Defects once seen in systems of this kind


def test_defect_1_a_run_without_deltas_is_inconclusive_and_says_so() -> None:
    world = random_world(5)
    for quote in world.quotes:
        quote["delta"] = None
    result = world.play(CATALOGUE["covered_call"])
    assert result.trades.num_rows == 0
    assert result.status == "inconclusive"
    assert "no deltas at all" in result.status_reasons[0]


def test_defect_1_a_run_without_decisions_is_inconclusive_and_says_so() -> None:
    world = World().quote(MONDAY, CALL, 0.010, 0.012, index=90_000.0)
    result = world.play(weekly_call(entry=Entry(0.5, 7, 11, hour_utc=20)))
    assert (result.status, result.decisions.num_rows) == ("inconclusive", 0)
    assert "no decision was made" in result.status_reasons[0]


def test_defect_4_closing_and_settling_at_the_same_worth_earn_the_same_in_coin_and_in_usd() -> None:
    settled = sold_and_delivered(CALL, 0.010, 100_000.0).play(weekly_call(), fee_schedule="none")
    world = World().quote(MONDAY, CALL, 0.010, 0.012, index=90_000.0).quote(FRIDAY - HOUR, CALL, 0.049, 0.050, index=100_000.0)
    closed = world.play(weekly_call(exit=Exit(days_left=1.0)), fee_schedule="none")
    for name, expected in (("profit_coin", 0.010 - 0.050), ("profit_usd", 0.010 * 90_000 - 0.050 * 100_000)):
        assert only_trade(settled)[name] == pytest.approx(expected, abs=1e-9)
        assert only_trade(closed)[name] == pytest.approx(expected, abs=1e-9)


def test_defect_5_a_premium_is_coin_and_becomes_usd_at_the_index() -> None:
    result = sold_and_delivered(CALL, 0.010, 90_000.0).play(weekly_call(), fee_schedule="none")
    assert only_trade(result)["premium_coin"] == pytest.approx(0.010)
    assert only_trade(result)["profit_usd"] == pytest.approx(900.0)
    for row in result.equity.to_pylist():
        assert row["equity_usd"] == pytest.approx(row["equity_coin"] * row["index"])


def test_defect_7_overlapping_calls_never_exceed_the_coins_held() -> None:
    many = Entry(dte_min=0.5, dte_target=7, dte_max=11, hour_utc=0, max_open=123)
    result = rolling_calls().play(weekly_call(entry=many))
    sold = np.cumsum(result.fills["contracts"].to_numpy())
    assert sold.min() == pytest.approx(-1.0)
    assert "capital" in result.decisions["reason"].to_pylist()
    assert all(e["open_positions"] <= 1 for e in result.equity.to_pylist())


def test_defect_8_fees_are_charged_and_fills_cross_the_spread() -> None:
    world = World().quote(MONDAY, CALL, 0.010, 0.012, index=90_000.0)
    opened = world.play(weekly_call()).equity.to_pylist()[0]
    assert opened["equity_coin"] == pytest.approx(1 - 0.001 - 0.0003, abs=1e-12)  # half the spread and the fee, at once
    at_mid = world.play(weekly_call(), crossing=0.0, fee_schedule="none").equity.to_pylist()[0]
    assert at_mid["equity_coin"] == pytest.approx(1.0, abs=1e-12)


def test_defect_9_a_drawdown_is_of_equity_not_of_profit_from_zero() -> None:
    assert max_drawdown(np.array([1.0, 1.001, 0.991, 1.0])) == pytest.approx(0.010 / 1.001)
    result = sold_and_delivered(CALL, 0.010, 400_000.0).play(weekly_call())
    assert 0.7 < result.metrics["max_drawdown_coin"] < 1


def test_defect_9_sharpe_is_annualised_on_a_daily_grid_however_often_equity_is_struck() -> None:
    day = 86_400_000_000
    daily = np.exp(np.cumsum(np.random.default_rng(1).normal(0.001, 0.01, 60)))
    returns = daily[1:] / daily[:-1] - 1
    expected = returns.mean() / returns.std(ddof=1) * math.sqrt(365)
    at_midnight = np.arange(60, dtype=np.int64) * day
    assert sharpe(at_midnight, daily) == pytest.approx(expected)
    hourly = np.arange(59 * 24 + 1, dtype=np.int64) * (day // 24)
    assert sharpe(hourly, daily[hourly // day]) == pytest.approx(expected)
    assert math.isnan(sharpe(at_midnight[:5], daily[:5]))
    assert math.isnan(sharpe(at_midnight, np.ones(60)))


def test_defect_12_positions_roll_whatever_source_the_rows_are_from_and_in_whatever_order() -> None:
    world = rolling_calls()
    play = weekly_call(exit=Exit(days_left=1.0))
    rolled = world.play(play)
    assert rolled.metrics["closed_trades"] >= 3
    assert len({i for t in rolled.trades.to_pylist() for i in t["instruments"]}) >= 3
    shuffled = np.random.default_rng(2).permutation(len(world.quotes))
    table = pa.Table.from_pylist([world.quotes[i] for i in shuffled], schema=_schema())
    prices = pa.Table.from_pylist(world.prices, schema=PRICE_SCHEMA)
    for source in ("recorded", "synthetic", "deribit"):
        sourced = table.append_column("source", pa.array([source] * table.num_rows))
        again = run_backtest(history_from_table(sourced, prices, underlying="BTC"), play, BacktestSettings())
        assert again.trades.equals(rolled.trades)


def _schema() -> pa.Schema:
    from tests.unit.backtest.worlds import QUOTES

    assert QUOTES.names == list(COLUMNS)
    return QUOTES


def test_a_debit_structure_is_stopped_by_its_loss_not_at_once() -> None:
    world = World().quote(MONDAY, CALL, 0.010, 0.012, index=90_000.0)
    for hours, bid in ((1, 0.010), (2, 0.008), (3, 0.005)):
        world.quote(MONDAY + hours * HOUR, CALL, bid, bid + 0.002, index=90_000.0)
    play = weekly(Leg("buy", "C", 0.25), exit=Exit(take_profit=0.5, stop_loss=0.5), filters=Filters(min_premium=-1.0, max_spread=2.0))
    trade = only_trade(world.play(play))
    assert trade["closed_at"] == MONDAY + 3 * HOUR
    assert trade["profit_coin"] == pytest.approx(0.005 - 0.012 - 0.0006, abs=1e-12)


def test_a_cancelled_order_shares_its_number_with_no_trade() -> None:
    world = World()
    for hours, bid in ((0, 0.010), (1, None), (24, 0.010), (25, 0.010)):
        world.quote(MONDAY + hours * HOUR, CALL, bid, 0.012, index=90_000.0)
    result = world.play(weekly_call(), latency_seconds=60)
    opened = [d["trade"] for d in result.decisions.to_pylist() if d["action"] == "open"]
    cancelled = [d["trade"] for d in result.decisions.to_pylist() if d["action"] == "cancel"]
    assert len(set(opened)) == 2
    assert cancelled == opened[:1]
    assert result.trades["trade"].to_pylist() == opened[1:]
