"""Names of instruments, ticks and the listing calendar: print(parse(x)) = x, and the calendar of real chains."""

from __future__ import annotations

import datetime as dt
from decimal import Decimal
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from options_agent.contracts import (
    COMBO_TICK,
    EXPIRY_TIME,
    Combo,
    Future,
    FutureSpread,
    ListingRule,
    Option,
    Perpetual,
    coin_of,
    expected_expiries,
    expiry_kind,
    format_name,
    listed_expiries,
    option_name,
    parse_name,
    parse_option,
    settlement_of,
    specification,
    tick_at,
    years_to_expiry,
)
from options_agent.errors import DataError

UTC = dt.UTC
families = st.sampled_from(["BTC", "ETH", "SOL", "BTC_USDC", "XRP_USDC", "1000PEPE_USDC"])
expiries = st.dates(dt.date(2016, 1, 1), dt.date(2099, 12, 31)).map(lambda d: dt.datetime.combine(d, EXPIRY_TIME))
strikes = st.decimals("0.0001", "9999999", allow_nan=False, allow_infinity=False, places=4)
structures = st.sampled_from(["CS", "PS", "STRD", "STRG", "RR", "BOX", "CBUT"])
instruments = st.one_of(
    st.builds(Option, families, expiries, strikes, st.sampled_from(["C", "P"])),
    st.builds(Future, families, expiries, st.booleans()),
    st.builds(Perpetual, families),
    st.builds(Combo, families, structures, expiries, st.lists(strikes, min_size=1, max_size=4).map(tuple)),
    st.builds(FutureSpread, families, st.none() | expiries, st.none() | expiries),
)


@given(instruments)
def test_every_instrument_reads_back_from_the_name_printed_for_it(instrument: Option) -> None:
    name = format_name(instrument)
    assert parse_name(name) == instrument
    assert format_name(parse_name(name)) == name


@pytest.mark.parametrize(
    ("name", "instrument"),
    [
        ("BTC-8DEC25-90000-C", Option("BTC", dt.datetime(2025, 12, 8, 8, tzinfo=UTC), Decimal(90000), "C")),
        ("BTC-9JUN20-9875-P", Option("BTC", dt.datetime(2020, 6, 9, 8, tzinfo=UTC), Decimal(9875), "P")),
        ("BTC_USDC-27DEC24-70000-P", Option("BTC_USDC", dt.datetime(2024, 12, 27, 8, tzinfo=UTC), Decimal(70000), "P")),
        ("XRP_USDC-30JUN23-0d625-C", Option("XRP_USDC", dt.datetime(2023, 6, 30, 8, tzinfo=UTC), Decimal("0.625"), "C")),
        ("BTC-26JUN26", Future("BTC", dt.datetime(2026, 6, 26, 8, tzinfo=UTC))),
        ("SYN.BTC-7FEB25", Future("BTC", dt.datetime(2025, 2, 7, 8, tzinfo=UTC), synthetic=True)),
        ("BTC-PERPETUAL", Perpetual("BTC")),
        ("ETH_USDC-PERPETUAL", Perpetual("ETH_USDC")),
        (
            "BTC-CS-31MAR23-100000_200000",
            Combo("BTC", "CS", dt.datetime(2023, 3, 31, 8, tzinfo=UTC), (Decimal(100000), Decimal(200000))),
        ),
        ("BTC-STRD-29MAY26-77000", Combo("BTC", "STRD", dt.datetime(2026, 5, 29, 8, tzinfo=UTC), (Decimal(77000),))),
        ("BTC-FS-19MAY26_PERP", FutureSpread("BTC", dt.datetime(2026, 5, 19, 8, tzinfo=UTC), None)),
        (
            "BTC-FS-20MAY26_19MAY26",
            FutureSpread("BTC", dt.datetime(2026, 5, 20, 8, tzinfo=UTC), dt.datetime(2026, 5, 19, 8, tzinfo=UTC)),
        ),
    ],
)
def test_names_of_the_exchange_mean_what_they_say_and_print_back(name: str, instrument: Option) -> None:
    assert parse_name(name) == instrument
    assert format_name(instrument) == name


@pytest.mark.parametrize(
    ("spelling", "canonical"),
    [
        ("XRP_USDC-30JUN23-0D625-C", "XRP_USDC-30JUN23-0d625-C"),
        ("XRP_USDC-30JUN23-0d6250-C", "XRP_USDC-30JUN23-0d625-C"),
        ("BTC-08DEC25-90000-C", "BTC-8DEC25-90000-C"),
        ("BTC-8DEC25-90000d0-C", "BTC-8DEC25-90000-C"),
    ],
)
def test_spellings_of_vendors_print_canonically(spelling: str, canonical: str) -> None:
    assert format_name(parse_name(spelling)) == canonical


@pytest.mark.parametrize("name", ["BTC-31FEB25-90000-C", "BTC-0DEC25-90000-C", "BTC-29FEB25", "BTC-8XYZ25-1-P", "BTC-FS-31APR24_PERP"])
def test_a_date_that_does_not_exist_is_refused(name: str) -> None:
    with pytest.raises(DataError, match="date that does not exist"):
        parse_name(name)


@pytest.mark.parametrize(
    "name",
    [
        "",
        "BTC",
        "btc-8DEC25-90000-C",
        " BTC-8DEC25-90000-C",
        "BTC-8DEC25-90000-C\n",
        "BTC-\N{ARABIC-INDIC DIGIT EIGHT}DEC25-90000-C",
        "BTC-8DEC25-90000-C-X",
        "BTC-8DEC25-90000-X",
        "BTC-8DEC25--90000-C",
        "BTC-8DEC25-0.625-C",
        "BTC-8DEC25-0-C",
        "BTC-8DEC25-0d0-C",
        "BTC-CS-8DEC25",
        "BTC-CS-8DEC25-100_0",
        "BTC-COMBO-1",
        "SYN.BTC-PERPETUAL",
        "SYN.EXPIRY",
        "index_price",
    ],
)
def test_garbage_is_refused(name: str) -> None:
    with pytest.raises(DataError, match=r"not an instrument name|strike of zero"):
        parse_name(name)


near_misses = st.from_regex(
    r"[A-Z]{2,4}(_USDC)?-([A-Z]{2,4}-)?[0-9]{1,2}(JAN|FEB|SEP|XYZ)[0-9]{2}(-[0-9]{1,4}([dD][0-9]{1,3})?)?(-[CPX])?", fullmatch=True
)


@given(st.text(max_size=40) | near_misses)
def test_any_text_is_an_instrument_or_a_data_error_and_printing_settles_it(text: str) -> None:
    try:
        instrument = parse_name(text)
    except DataError:
        return
    assert parse_name(format_name(instrument)) == instrument


@pytest.mark.parametrize("name", ["BTC-PERPETUAL", "BTC-26JUN26", "BTC-CS-31MAR23-100000_200000"])
def test_only_an_option_is_an_option(name: str) -> None:
    with pytest.raises(DataError, match="not an option"):
        parse_option(name)


@pytest.mark.parametrize("strike", [0.625, np.float64(0.625), Decimal("0.6250")])
def test_names_are_built_from_strikes_of_any_number_type(strike: float) -> None:
    expiry = dt.datetime(2023, 6, 30, 8, tzinfo=UTC)
    assert option_name("XRP_USDC", expiry, strike, "C") == "XRP_USDC-30JUN23-0d625-C"
    assert option_name("BTC", expiry, 90_000, "P") == "BTC-30JUN23-90000-P"
    assert option_name("BTC", expiry, 1e5, "P") == "BTC-30JUN23-100000-P"


@pytest.mark.parametrize("strike", [float("nan"), float("inf"), 0.0, -1.0])
def test_no_option_has_an_impossible_strike(strike: float) -> None:
    with pytest.raises(DataError, match="no option"):
        option_name("BTC", dt.datetime(2023, 6, 30, 8, tzinfo=UTC), strike, "C")


def test_settlement_follows_the_family() -> None:
    assert [settlement_of(f) for f in ("BTC", "ETH", "BTC_USDC", "XRP_USDC")] == ["coin", "coin", "usdc", "usdc"]
    assert parse_option("XRP_USDC-30JUN23-0d625-C").settlement == "usdc"
    assert coin_of("BTC_USDC") == coin_of("BTC") == "BTC"
    with pytest.raises(DataError, match="EURX"):
        settlement_of("BTC_EURX")


@pytest.mark.parametrize(("price", "tick"), [(0.0, 1e-4), (0.0001, 1e-4), (0.005, 1e-4), (0.0055, 5e-4), (0.2, 5e-4)])
def test_the_inverse_tick_widens_above_half_a_percent(price: float, tick: float) -> None:
    assert tick_at("BTC", price) == tick_at("ETH", price) == tick


def test_sizes_are_those_of_the_exchange_and_unknown_ones_stay_unknown() -> None:
    bitcoin, ether, ripple = specification("BTC"), specification("ETH"), specification("XRP_USDC")
    assert bitcoin is not None
    assert ether is not None
    assert ripple is not None
    assert (bitcoin.contract_size, bitcoin.min_trade_amount, ether.min_trade_amount) == (1.0, 0.1, 1.0)
    assert ripple.contract_size == 1_000.0
    assert COMBO_TICK == 0.0001
    assert specification("DOGE_USDC") is None
    assert tick_at("DOGE_USDC", 0.01) is None


def test_time_to_expiry_counts_seconds_of_a_year_of_365_days() -> None:
    expiry = dt.datetime(2026, 1, 30, 8, tzinfo=UTC)
    assert years_to_expiry(expiry, expiry - dt.timedelta(days=365)) == 1.0
    assert years_to_expiry(expiry, expiry - dt.timedelta(hours=1)) == pytest.approx(1 / 8760, rel=1e-15)
    assert years_to_expiry(expiry, expiry + dt.timedelta(seconds=1)) == 0.0


@pytest.mark.parametrize(
    ("expiry", "kind"),
    [("29JAN26", "daily"), ("23JAN26", "weekly"), ("30JAN26", "monthly"), ("27MAR26", "quarterly"), ("25DEC26", "quarterly")],
)
def test_an_expiry_is_daily_weekly_monthly_or_quarterly_by_its_date(expiry: str, kind: str) -> None:
    assert expiry_kind(parse_option(f"BTC-{expiry}-90000-C").expiry) == kind


moments = st.datetimes(dt.datetime(2020, 1, 1), dt.datetime(2035, 1, 1), timezones=st.just(UTC))


@given(moments)
def test_listed_expiries_ascend_lie_ahead_at_eight_and_include_each_kind(at: dt.datetime) -> None:
    listed = listed_expiries(at)
    assert list(listed) == sorted(set(listed))
    assert all(e > at and e.timetz() == EXPIRY_TIME for e in listed)
    assert listed[0] - at <= dt.timedelta(days=1)
    kinds = [expiry_kind(e) for e in listed]
    assert kinds.count("quarterly") in (4, 5)
    assert kinds.count("daily") >= 3
    assert 11 <= len(listed) <= 13


@given(moments, st.floats(0, 30))
def test_an_expiry_once_listed_stays_listed_until_it_expires(at: dt.datetime, days: float) -> None:
    later = at + dt.timedelta(days=days)
    assert {e for e in listed_expiries(at) if e > later} <= set(listed_expiries(later))


def test_an_expiry_is_listed_until_eight_and_no_longer() -> None:
    expiry = dt.datetime(2026, 1, 30, 8, tzinfo=UTC)
    assert listed_expiries(expiry - dt.timedelta(microseconds=1))[0] == expiry
    assert listed_expiries(expiry)[0] == expiry + dt.timedelta(days=1)


def test_the_listing_calendar_refuses_a_naive_time() -> None:
    with pytest.raises(DataError, match="naive"):
        listed_expiries(dt.datetime(2026, 1, 30, 8))


def test_expected_are_the_expiries_of_the_days_own_rule_that_had_an_hour_to_appear() -> None:
    noon, eight = dt.datetime(2026, 2, 3, 12, tzinfo=UTC), dt.datetime(2026, 2, 3, 8, tzinfo=UTC)
    assert expected_expiries("BTC", noon) == listed_expiries(noon)
    assert expected_expiries("ETH", eight) == tuple(e for e in listed_expiries(eight) if e != dt.datetime(2026, 2, 7, 8, tzinfo=UTC))
    assert expected_expiries("BTC", dt.datetime(2024, 5, 1, 12, tzinfo=UTC))[:4] == tuple(
        dt.datetime(2024, 5, day, 8, tzinfo=UTC) for day in (2, 3, 4, 10)
    )


def test_nothing_is_expected_where_the_listing_rule_is_not_known() -> None:
    assert expected_expiries("XRP_USDC", dt.datetime(2026, 2, 3, 12, tzinfo=UTC)) == ()
    assert expected_expiries("BTC", dt.datetime(2021, 2, 3, 12, tzinfo=UTC)) == ()


def test_an_older_listing_rule_is_data() -> None:
    few = listed_expiries(dt.datetime(2019, 6, 3, 12, tzinfo=UTC), ListingRule(dailies=2, weeklies=2, monthlies=1, quarterlies=2))
    assert [e.date().isoformat() for e in few] == ["2019-06-04", "2019-06-05", "2019-06-07", "2019-06-14", "2019-06-28", "2019-09-27"]


@pytest.mark.data
def test_the_calendar_lists_what_the_exchange_listed_at_every_recorded_sweep(market_data: Path) -> None:
    import polars as pl

    files = sorted((market_data / "deribit_6h_2026").glob("*.parquet"))
    columns = ["timestamp", "currency", "expiry_datetime"]
    rows = pl.concat([pl.read_parquet(f, columns=columns).unique() for f in files])
    sweeps = rows.group_by("currency", "timestamp").agg(pl.col("expiry_datetime").sort()).rows()
    wrong = [(coin, at) for coin, at, listed in sweeps if listed_expiries(at) != tuple(listed)]
    assert len(sweeps) == 962
    assert not wrong  # 100 % of January to April 2026; the numbers of ListingRule are that period's, not the exchange's promise


@pytest.mark.data
def test_quotes_of_real_chains_lie_on_their_ticks(market_data: Path) -> None:
    import polars as pl

    rows = pl.concat([pl.read_parquet(f) for f in sorted((market_data / "deribit_6h_2026").glob("*.parquet"))])
    for coin in ("BTC", "ETH"):
        quotes = rows.filter(pl.col("currency") == coin)
        price = np.concatenate([quotes[side].drop_nulls().to_numpy() for side in ("bid_price", "ask_price")])
        assert price.size > 700_000
        assert _off_tick(coin, price) <= 4  # four bids of BTC, the exchange's own


@pytest.mark.data
def test_quotes_of_a_linear_family_lie_on_its_tick(market_data: Path) -> None:
    import polars as pl

    files = sorted((market_data / "samples" / "book_summary_15min" / "XRP_USDC").glob("*.parquet"))
    frames = [pl.read_parquet(f) for f in files]
    sides = [
        frame[name] for frame in frames for name in ("best_bid_price", "best_ask_price", "bid_price", "ask_price") if name in frame.columns
    ]
    price = np.concatenate([side.drop_nulls().cast(pl.Float64).to_numpy() for side in sides])
    price = price[price > 0]
    assert price.size > 2_000
    assert _off_tick("XRP_USDC", price) == 0


def _off_tick(family: str, prices: np.ndarray) -> int:
    """How many prices miss their grid, beyond the noise of floats."""
    values, counts = np.unique(prices, return_counts=True)
    ticks = np.array([tick_at(family, float(v)) for v in values])
    return int(counts[np.abs(values / ticks - np.round(values / ticks)) > 1e-6].sum())
