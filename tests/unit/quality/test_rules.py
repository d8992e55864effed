"""Each rule at its boundary, what severity means, and the laws every judgement keeps."""

from __future__ import annotations

import datetime as dt
import math
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from options_agent.errors import DataError, SettingsError
from options_agent.quality.judge import Verdicts, judge
from options_agent.quality.rules import NAMES, RULES
from options_agent.quotes import CLEAN_SCHEMA, QUARANTINE_SCHEMA, QUOTE_SCHEMA
from options_agent.settings import QualitySettings
from tests.unit.quality import reference
from tests.unit.quality.market import EXPIRIES, NOON, Row, rows, smile, spoilt, table

HOUR = dt.timedelta(hours=1)
STANDARD = QualitySettings()


def broken(quotes: list[Row], previous: list[Row] | None = None, settings: QualitySettings = STANDARD) -> list[tuple[str, ...]]:
    """Rules broken by each row that breaks any."""
    verdicts = judge(table(quotes), settings, table(previous) if previous else None)
    return [names for names in names_of(verdicts) if names]


def names_of(verdicts: Verdicts) -> list[tuple[str, ...]]:
    return [tuple(rule.name for i, rule in enumerate(verdicts.rules) if int(bits) >> i & 1) for bits in verdicts.broken]


def with_values(**values: object):
    return lambda row: row.update(values)


def test_a_believable_chain_breaks_nothing() -> None:
    assert broken(rows()) == []
    assert judge(table(rows()), STANDARD).counts()["clean"] == len(rows())


@pytest.mark.parametrize(
    ("rule", "change"),
    [
        ("missing_field", with_values(mark=None, mark_iv=None, bid=None)),
        ("missing_field", with_values(forward=None, index=None)),
        ("not_finite", with_values(mark=math.nan)),
        ("not_finite", with_values(open_interest=math.inf)),
        ("not_positive", with_values(bid=0.0)),
        ("not_positive", with_values(mark_iv=None, mark=-0.0001, bid=None)),
        ("not_positive", with_values(bid_size=-1.0)),
        ("not_positive", with_values(bid_iv=-0.1)),
        ("not_positive", with_values(delta=1.01)),
        ("not_positive", lambda row: row.update(delta=-0.3 if row["right"] == "C" else 0.3)),
        ("unknown_instrument", with_values(instrument="BTC-27MAR26")),
        ("unknown_instrument", with_values(instrument="nonsense")),
        ("unknown_instrument", with_values(instrument="BTC-27MAR26-91000-C")),
        ("unknown_instrument", with_values(settlement="usdc", mark=None, bid=None, ask=None)),
        ("crossed", lambda row: row.update(bid=row["ask"] + 0.0005)),
        ("off_tick", lambda row: row.update(bid=row["bid"] + 0.0002)),
        ("absurd_iv", with_values(mark_iv=9.5, mark=None)),
        ("absurd_iv", with_values(mark_iv=0.001, mark=None)),
        ("mark_band", lambda row: row.update(mark=row["ask"] + 0.011, mark_iv=None)),
        ("mark_band", lambda row: row.update(mark=row["bid"] - 0.011, mark_iv=None)),
        ("mark_model", lambda row: row.update(mark=row["mark"] + 0.011, bid=None)),
        ("smile_outlier", lambda row: row.update(mark_iv=row["mark_iv"] + 0.3, mark=None)),
        ("smile_outlier", lambda row: row.update(mark_iv=row["mark_iv"] - 0.3, mark=None)),
        ("static_arbitrage", lambda row: row.update(bid=round(row["bid"] + 0.03, 10), ask=round(row["ask"] + 0.03, 10), mark=None)),
        ("static_arbitrage", lambda row: row.update(bid=None, ask=round(row["ask"] - 0.03, 10), mark=None)),
        ("static_arbitrage", lambda row: row.update(bid=None, ask=0.0005, mark=None)),
    ],
)
def test_a_row_spoilt_in_one_way_breaks_that_rule_alone(rule: str, change) -> None:
    assert broken(spoilt(change)) == [(rule,)]


def test_a_missing_side_is_no_fault() -> None:
    assert broken(spoilt(with_values(bid=None))) == []
    assert broken(spoilt(with_values(ask=None))) == []
    assert broken(spoilt(with_values(bid=None, ask=None))) == []


def test_a_row_without_mark_or_iv_is_usable_when_it_has_both_sides() -> None:
    assert broken(spoilt(with_values(mark=None, mark_iv=None))) == []


def test_a_locked_quote_stays_and_is_counted() -> None:
    verdicts = judge(table(spoilt(lambda row: row.update(bid=row["ask"]))), STANDARD)
    assert verdicts.counts()["warn:locked"] == 1
    assert verdicts.counts()["quarantined"] == 0


def test_a_mark_may_be_off_by_what_a_small_move_of_the_forward_does_to_it_and_no_more() -> None:
    deep, far = {"strike": 70_000.0, "right": "C"}, {"strike": 110_000.0, "right": "C"}  # of delta near one, and near none
    for off, bad in ((0.0, False), (0.004, False), (0.02, True)):
        assert bool(broken(spoilt(lambda row, off=off: row.update(mark=row["mark"] + off, bid=None, ask=None), **deep))) is bad
    for off, bad in ((0.0009, False), (0.004, True)):
        assert bool(broken(spoilt(lambda row, off=off: row.update(mark=row["mark"] + off, bid=None, ask=None), **far))) is bad


def test_a_forward_of_another_time_is_caught_by_the_mark() -> None:
    assert broken(spoilt(lambda row: row.update(forward=row["forward"] * 1.05, bid=None, ask=None))) == [("mark_model",)]


@pytest.mark.parametrize(
    ("price", "is_on"), [(0.0049, True), (0.005, True), (0.0051, False), (0.0055, True), (0.00495, False), (0.1 + 0.2, True)]
)
def test_ticks_are_a_ten_thousandth_up_to_and_including_five_thousandths_and_half_a_thousandth_above(price: float, is_on: bool) -> None:
    quotes = spoilt(with_values(bid=price, ask=None, mark=None), strike=85_000.0, right="C")
    off = [names for names in broken(quotes) if "off_tick" in names]
    assert bool(off) is not is_on


def test_a_mark_a_few_ticks_or_a_small_share_outside_the_quote_is_believed() -> None:
    dear = {"strike": 110_000.0, "right": "P"}
    assert broken(spoilt(lambda row: row.update(mark=row["ask"] + 0.0049, mark_iv=None))) == []
    assert broken(spoilt(lambda row: row.update(mark=row["ask"] + 0.02, mark_iv=None), **dear)) == []


def test_families_with_unknown_ticks_are_not_judged_by_them() -> None:
    assert broken(rows(underlying="SOL", tick=None)) == []


@pytest.mark.parametrize(
    ("seconds", "rule"),
    [(-3_900, None), (-3_901, "stale"), (3_600, None), (3_601, "late")],
)
def test_a_row_may_be_old_or_late_to_its_limit_and_no_more(seconds: int, rule: str | None) -> None:
    found = broken(spoilt(with_values(ts=NOON + dt.timedelta(seconds=seconds))))
    assert found == ([(rule,)] if rule else [])


@pytest.mark.parametrize(("seconds", "is_expired"), [(-1e-6, False), (0.0, True), (1.0, True)])
def test_a_row_known_at_its_expiry_is_expired(seconds: float, is_expired: bool) -> None:
    expiry = EXPIRIES[0]
    quotes = rows(expiry, expiries=(expiry,), known_after=seconds)
    assert bool(broken(quotes)) is is_expired
    assert all("expired" in names for names in broken(quotes))


def test_of_duplicates_the_best_row_stays() -> None:
    quotes = rows()
    worse, better = dict(quotes[7], bid=None), dict(quotes[7], bid=quotes[7]["bid"])
    verdicts = judge(table([*quotes[:7], worse, *quotes[8:], better]), STANDARD)
    assert np.flatnonzero(verdicts.condemned).tolist() == [7]
    assert names_of(verdicts)[7] == ("duplicate",)


def test_of_equal_duplicates_the_first_stays() -> None:
    verdicts = judge(table([*rows(), rows()[3]]), STANDARD)
    assert np.flatnonzero(verdicts.condemned).tolist() == [len(rows())]


def test_a_bad_row_does_not_push_out_its_good_duplicate() -> None:
    quotes = rows()
    crossed = dict(quotes[7], bid=1.0, ask=0.5, ts=NOON + dt.timedelta(seconds=9))
    verdicts = judge(table([*quotes, crossed]), STANDARD)
    assert np.flatnonzero(verdicts.condemned).tolist() == [len(quotes)]


def test_rows_of_two_regions_are_no_duplicates() -> None:
    assert broken([*rows(), *(dict(row, region="tokyo") for row in rows())]) == []


def test_time_going_backwards_is_seen_within_a_day_and_against_the_last_snapshot_of_the_day_before() -> None:
    earlier, later = rows(NOON - HOUR, known_after=HOUR.total_seconds() - 5), rows(NOON, known_after=-30.0)
    assert set(broken([*earlier, *later])) == {("time_backwards",)}
    assert len(broken([*earlier, *later])) == len(later)
    assert set(broken(later, previous=earlier)) == {("time_backwards",)}
    assert broken(rows(NOON), previous=earlier) == []


def test_a_feed_that_serves_the_same_rows_again_is_caught() -> None:
    frozen = [dict(row, snapshot=NOON + HOUR) for row in rows(NOON)]
    assert set(broken([*rows(NOON), *frozen])) == {("time_backwards",)}


def test_a_row_from_the_future_does_not_condemn_those_that_follow() -> None:
    odd = spoilt(with_values(ts=NOON + 5 * HOUR))
    assert broken([*odd, *rows(NOON + HOUR), *rows(NOON + 2 * HOUR)]) == [("late",)]


def test_rows_of_another_network_are_foreign() -> None:
    verdicts = judge(table(spoilt(with_values(network="mainnet"))), STANDARD, network="synthetic")
    assert [names for names in names_of(verdicts) if names] == [("foreign_network",)]


def test_an_expiry_with_few_points_gets_no_smile_verdict() -> None:
    quotes = rows(strikes=(80_000.0, 85_000.0, 90_000.0))
    quotes[2]["mark_iv"], quotes[2]["mark"] = 1.5, None
    assert broken(quotes) == []


def test_a_far_listed_last_strike_is_no_outlier_where_its_neighbours_point_to_it() -> None:
    quotes = rows(strikes=(20_000.0, *(60_000.0 + 5_000.0 * n for n in range(11))), expiries=(EXPIRIES[1],))
    slope = (smile(60_000.0) - smile(65_000.0)) / math.log(60 / 65)
    for row in quotes[:2]:
        row.update(mark_iv=smile(60_000.0) + slope * math.log(20 / 60), mark=None, bid=None, ask=None)
    assert broken(quotes) == []
    for row in quotes[:2]:
        row["mark_iv"] += 0.6
    assert broken(quotes) == [("smile_outlier",)] * 2


def test_arbitrage_blames_the_row_that_is_wrong_not_the_one_it_is_traded_against() -> None:
    def too_cheap(row: Row) -> None:
        row.update(bid=0.0005, ask=0.001, mark=None)

    verdicts = judge(table(spoilt(too_cheap)), STANDARD)
    (row,) = verdicts.quarantined().to_pylist()
    assert (row["strike"], row["right"], row["expiry"]) == (85_000.0, "C", EXPIRIES[1])


def test_linear_options_are_judged_in_their_own_currency() -> None:
    quotes = []
    for row in rows(underlying="SOL_USDC", strikes=tuple(60.0 + 5 * n for n in range(11)), forward=85.0, tick=None):
        bid, ask = (row["bid"] or 0.0) * 85.0, row["ask"] * 85.0
        prices = {"bid": round(math.floor(bid / 0.05) * 0.05, 6) or None, "ask": round(math.ceil(ask / 0.05) * 0.05, 6)}
        quotes.append({**row, **prices, "mark": row["mark"] * 85.0, "settlement": "usdc", "index": 85.0})
    assert broken(quotes) == []
    quotes[12].update(bid=quotes[12]["bid"] + 4.0, ask=quotes[12]["ask"] + 4.0, mark=None)
    assert broken(quotes) == [("static_arbitrage",)]


def test_a_disabled_rule_is_not_asked_and_an_unknown_one_is_refused() -> None:
    quotes = spoilt(lambda row: row.update(bid=row["ask"] + 0.0005))
    assert broken(quotes, settings=QualitySettings(disabled=("crossed", "static_arbitrage"))) == []
    with pytest.raises(SettingsError, match="no quality rule is called"):
        judge(table(quotes), QualitySettings(disabled=("crosed",)))


def test_another_kind_of_table_is_refused() -> None:
    with pytest.raises(DataError, match="not a quote table: columns missing"):
        judge(table(rows()).drop_columns(["bid"]), STANDARD)


def test_every_rule_has_a_reason_and_its_thresholds_are_settings() -> None:
    assert len(set(NAMES)) == len(RULES)
    for rule in RULES:
        assert rule.reason
        assert "\n" not in rule.reason
        assert all(hasattr(STANDARD, name) for name in rule.thresholds)
        assert (rule.check.__doc__ or "").strip()


def test_the_documented_rules_and_thresholds_are_the_ones_in_force() -> None:
    documented = (Path(__file__).parents[3] / "docs" / "quality.md").read_text()
    for rule in RULES:
        limits = ", ".join(f"`{name}` {getattr(STANDARD, name):g}" for name in rule.thresholds)
        assert f"| `{rule.name}` | {rule.severity} | {rule.reason} | {limits} |" in documented


def test_a_quarantined_row_says_which_rules_it_broke_and_why_in_one_line() -> None:
    quotes = spoilt(lambda row: row.update(bid=row["ask"] + 0.0002, mark_iv=20.0))
    (row,) = judge(table(quotes), STANDARD).quarantined().to_pylist()
    assert row["rule"] == "crossed"
    assert row["rules"].split(",") == ["crossed", "off_tick", "absurd_iv", "mark_model"]
    assert row["reason"].startswith("the bid is above the ask: bid 0.")
    assert "\n" not in row["reason"]


def test_missing_iv_and_greeks_are_computed_and_flagged() -> None:
    quotes = rows()
    for row in quotes:
        row["true_iv"] = row.pop("mark_iv")
    clean = judge(table(quotes), STANDARD).clean()
    assert clean.schema.equals(CLEAN_SCHEMA)
    for row, known in zip(clean.to_pylist(), quotes, strict=True):
        assert row["iv_computed"]
        assert row["greeks_computed"]
        assert row["mark_iv"] == pytest.approx(known["true_iv"], rel=1e-7)
        assert abs(row["delta"]) < 1
        assert row["gamma"] > 0
        assert row["vega"] > 0
        assert row["theta"] < 0


def test_given_greeks_are_kept_and_only_the_missing_ones_computed() -> None:
    clean = judge(table(spoilt(with_values(delta=0.123, vega=45.0))), STANDARD).clean().to_pylist()
    row = next(row for row in clean if row["delta"] == 0.123)
    assert row["vega"] == 45.0
    assert row["gamma"] > 0
    assert (row["iv_computed"], row["greeks_computed"]) == (False, True)


def test_without_a_forward_the_index_stands_in_and_forward_stays_null() -> None:
    row = judge(table([dict(rows()[10], forward=None, mark_iv=None)]), STANDARD).clean().to_pylist()[0]
    assert row["forward"] is None
    assert row["iv_computed"]
    assert row["delta"] is not None


def test_a_mark_no_volatility_explains_leaves_the_iv_and_the_greeks_null() -> None:
    row = judge(table([dict(rows()[0], mark=0.0, mark_iv=None, bid=None)]), STANDARD).clean().to_pylist()[0]
    assert row["mark_iv"] is None
    assert row["delta"] is None
    assert (row["iv_computed"], row["greeks_computed"]) == (False, False)


# --- laws ---------------------------------------------------------------------------------------------------------

ODD = st.sampled_from([None, math.nan, math.inf, -math.inf, 0.0, -0.0, -1.0, 1e-300, 1e300, 0.5, 0.0005])
ODD_TEXT = st.sampled_from([None, "", "BTC", "C", "X", "usdc", "BTC-27MAR26-85000-C", "nonsense", "mainnet"])
ODD_TIME = st.sampled_from([None, NOON, NOON - HOUR, EXPIRIES[0], EXPIRIES[0] + HOUR, dt.datetime(1970, 1, 1, tzinfo=dt.UTC)])


@st.composite
def garbage(draw: st.DrawFn) -> list[Row]:
    """Two snapshots of a chain with anything anywhere, and rows said twice."""
    quotes = [*rows(NOON, expiries=EXPIRIES[:1]), *rows(NOON + HOUR, expiries=EXPIRIES[:1])]
    for _ in range(draw(st.integers(0, 25))):
        row = draw(st.sampled_from(quotes))
        field = draw(st.sampled_from(list(QUOTE_SCHEMA)))
        values = ODD if pa.types.is_float64(field.type) else ODD_TIME if pa.types.is_timestamp(field.type) else ODD_TEXT
        row[field.name] = draw(values)
    quotes += [dict(draw(st.sampled_from(quotes))) for _ in range(draw(st.integers(0, 5)))]
    return draw(st.permutations(quotes))


def as_counter(rows_: list[Row], *, but: tuple[str, ...]) -> Counter[str]:
    return Counter(repr([(name, value) for name, value in row.items() if name in QUOTE_SCHEMA.names and name not in but]) for row in rows_)


@hypothesis_settings(max_examples=60)
@given(garbage(), st.sampled_from([(), ("missing_field",), NAMES]))
def test_nothing_vanishes_whatever_the_rows_hold(quotes: list[Row], disabled: tuple[str, ...]) -> None:
    raw = table(quotes)
    verdicts = judge(raw, QualitySettings(disabled=disabled))
    quarantined, counts = verdicts.quarantined(), verdicts.counts()
    kept = raw.filter(pa.array(~verdicts.condemned))
    assert counts["rows_in"] == len(raw) == counts["clean"] + counts["quarantined"]
    assert sum(n for name, n in counts.items() if name.startswith("rule:")) == counts["quarantined"] == len(quarantined)
    assert quarantined.schema.equals(QUARANTINE_SCHEMA)
    assert as_counter(kept.to_pylist(), but=()) + as_counter(quarantined.to_pylist(), but=()) == as_counter(raw.to_pylist(), but=())
    if not disabled:
        clean = verdicts.clean()
        computed = ("mark_iv", "delta", "gamma", "vega", "theta")
        assert as_counter(clean.to_pylist(), but=computed) == as_counter(kept.to_pylist(), but=computed)


@st.composite
def spoilt_chains(draw: st.DrawFn) -> tuple[list[Row], list[Row]]:
    """Chains of a family without ticks, prices and times pushed at random: what the reference is asked about."""
    strikes = tuple(sorted(draw(st.sets(st.integers(40, 140), min_size=4, max_size=11))))
    underlying = draw(st.sampled_from(["SOL", "BTC"]))
    tick = None if underlying == "SOL" else 0.0001
    snapshots = [
        rows(NOON + n * HOUR, underlying=underlying, expiries=EXPIRIES[:1], strikes=tuple(k * 1_000.0 for k in strikes), tick=tick)
        for n in range(3)
    ]
    quotes = [row for snapshot in snapshots[1:] for row in snapshot]
    push = st.floats(-0.06, 0.06).map(lambda x: round(x, 6))
    for row in draw(st.lists(st.sampled_from(quotes), max_size=8)):
        kind = draw(st.sampled_from(["bid", "ask", "both", "iv", "ts", "mark", "none", "twice", "forward"]))
        if kind in ("bid", "ask") and row[kind] is not None:
            row[kind] = row[kind] + draw(push)
        elif kind == "both":
            by = draw(push)
            row.update({side: row[side] + by for side in ("bid", "ask") if row[side] is not None})
        elif kind == "iv":
            row.update(mark_iv=smile(row["strike"]) + draw(st.sampled_from([-0.45, 0.4, 0.8, 9.0])), mark=None)
        elif kind == "ts":
            row["ts"] += dt.timedelta(seconds=draw(st.integers(-9_000, 9_000)))
        elif kind == "mark" and row["mark"] is not None:
            row["mark"] += draw(push)
        elif kind == "none":
            row[draw(st.sampled_from(["bid", "ask", "mark", "mark_iv", "forward"]))] = None
        elif kind == "twice":
            quotes.append(dict(row))
        elif kind == "forward" and row["forward"] is not None:
            row["forward"] *= 1 + draw(push) / 2
    return snapshots[0], quotes


@hypothesis_settings(max_examples=100)
@given(spoilt_chains())
def test_the_rules_agree_with_a_slow_reference(chains: tuple[list[Row], list[Row]]) -> None:
    previous, quotes = chains
    verdicts = judge(table(quotes), STANDARD, table(previous))
    pairs = zip(quotes, names_of(verdicts), reference.verdicts(quotes, STANDARD, previous), strict=True)
    assert [(row["instrument"], row["snapshot"], ours, theirs) for row, ours, theirs in pairs if set(ours) != theirs] == []


@hypothesis_settings(max_examples=30)
@given(spoilt_chains(), st.randoms(use_true_random=False))
def test_the_order_of_rows_does_not_matter_but_between_equally_good_duplicates(chains: tuple[list[Row], list[Row]], random) -> None:
    quotes = list({(row["instrument"], row["snapshot"]): row for row in chains[1]}.values())
    shuffled = quotes.copy()
    random.shuffle(shuffled)

    def told(some: list[Row]) -> Counter[str]:
        return Counter(f"{row} {names}" for row, names in zip(some, names_of(judge(table(some), STANDARD)), strict=True))

    assert told(quotes) == told(shuffled)


def test_verdicts_are_values() -> None:
    verdicts = judge(table(rows()), STANDARD)
    assert replace(verdicts).counts() == verdicts.counts()
