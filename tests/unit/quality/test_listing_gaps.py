"""Missing expiries and strikes, and random holes of every kind: found are exactly those, in each region and in any."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from options_agent.contracts import listed_expiries, option_name, parse_option
from options_agent.lake.compaction import compact_raw_day
from options_agent.lake.store import open_lake, write_snapshot
from options_agent.lake.sweeps import with_sweep
from options_agent.quality.gaps import ANY_REGION, GAP_SCHEMA, find_gaps, merged_view
from options_agent.quality.listing_gaps import find_listing_gaps
from options_agent.quotes import quote_table
from options_agent.settings import load_settings
from tests.unit.quality.gap_reference import missing_contracts, missing_intervals

MIDNIGHT = dt.datetime(2026, 1, 30, tzinfo=dt.UTC)  # a Friday: expiries fall and are listed at 08:00
HOUR = dt.timedelta(hours=1)
HOURS = 60
STRIKES = (80_000.0, 85_000.0, 90_000.0)


def listed(at: dt.datetime) -> list[str]:
    """The contracts of the calendar at a grid time: five of its expiries, three strikes, both rights."""
    expiries = listed_expiries(at)
    return [option_name("BTC", e, k, r) for e in (*expiries[:3], *expiries[-2:]) for k in STRIKES for r in ("C", "P")]


def rows(at: dt.datetime, names: list[str], *, region: str = "eu1", source: str = "deribit"):
    options = [parse_option(name) for name in names]
    columns = {
        "ts": [at + dt.timedelta(seconds=2)] * len(names),
        "snapshot": [at] * len(names),
        "underlying": ["BTC"] * len(names),
        "instrument": names,
        "expiry": [option.expiry for option in options],
        "strike": [float(option.strike) for option in options],
        "right": [option.right for option in options],
        "settlement": ["coin"] * len(names),
        "mark": [0.05] * len(names),
        "source": [source] * len(names),
        "network": ["synthetic"] * len(names),
        "region": [region] * len(names),
    }
    return quote_table(columns, place="test")


@pytest.fixture
def lake(settings):
    return open_lake(settings)


def found(table) -> set:
    assert table.schema.equals(GAP_SCHEMA)
    return {
        (
            gap["kind"],
            gap["instrument"] or (gap["expiry"] and gap["expiry"].isoformat()),
            gap["opened_at"],
            gap["closed_at"],
            gap["missing"],
        )
        for gap in table.to_pylist()
    }


def listing(lake, start: int = 0, end: int = HOURS):
    return find_listing_gaps(lake, "BTC", (MIDNIGHT + start * HOUR).date(), (MIDNIGHT + end * HOUR).date())


def test_a_whole_harvest_has_no_gap_though_expiries_come_and_go(lake) -> None:
    for hour in range(HOURS):
        at = MIDNIGHT + hour * HOUR
        write_snapshot(lake, rows(at, listed(at)))
    assert listing(lake).num_rows == 0


def test_an_expiry_and_a_strike_are_different_findings_and_an_expiry_is_not_told_strike_by_strike(lake) -> None:
    gone_expiry, gone = listed_expiries(MIDNIGHT)[2], listed(MIDNIGHT)[-1]
    for hour in range(6):
        at = MIDNIGHT + hour * HOUR
        names = listed(at)
        if hour in {2, 3}:
            names = [name for name in names if option_name("BTC", gone_expiry, STRIKES[0], "C").rsplit("-", 2)[0] not in name]
        if hour == 4:
            names.remove(gone)
        write_snapshot(lake, rows(at, names))
    assert found(listing(lake)) == {
        ("expiry", gone_expiry.isoformat(), MIDNIGHT + HOUR, MIDNIGHT + 4 * HOUR, 2),
        ("strike", gone, MIDNIGHT + 3 * HOUR, MIDNIGHT + 5 * HOUR, 1),
    }
    row = listing(lake).filter(listing(lake)["kind"].to_numpy(zero_copy_only=False) == "strike").to_pylist()[0]
    assert (row["first_missing"], row["last_missing"], row["cause"]) == (MIDNIGHT + 4 * HOUR, MIDNIGHT + 4 * HOUR, "unknown")


def test_a_snapshot_that_is_missing_as_a_whole_lacks_no_strike(lake) -> None:
    for hour in (0, 1, 4, 5):
        at = MIDNIGHT + hour * HOUR
        write_snapshot(lake, rows(at, listed(at)))
    assert listing(lake).num_rows == 0
    assert find_gaps(lake, "BTC", MIDNIGHT.date(), MIDNIGHT.date(), interval=HOUR).num_rows == 1


def test_what_another_region_has_is_a_gap_of_the_one_only(lake) -> None:
    gone = listed(MIDNIGHT)[0]
    for hour in range(5):
        at = MIDNIGHT + hour * HOUR
        write_snapshot(lake, rows(at, listed(at), region="us1"))
        write_snapshot(lake, rows(at, [name for name in listed(at) if hour != 2 or name != gone]))
    table = listing(lake)
    assert table["region"].to_pylist() == ["eu1"]
    assert merged_view(table).num_rows == 0


def test_what_both_regions_lack_is_a_gap_of_each_and_of_any(lake) -> None:
    gone = listed(MIDNIGHT)[0]
    for region in ("eu1", "us1"):
        for hour in range(5):
            at = MIDNIGHT + hour * HOUR
            write_snapshot(lake, rows(at, [name for name in listed(at) if hour != 2 or name != gone], region=region))
    table = listing(lake)
    assert table["region"].to_pylist() == ["any", "eu1", "us1"]
    assert merged_view(table)["region"].to_pylist() == ["any"]


def test_a_sweeps_note_tells_the_cause_and_what_lacks_at_either_end(lake) -> None:
    for hour in range(5):
        at = MIDNIGHT + hour * HOUR
        names = listed(at)
        late, middle, early = names[0], names[7], names[-1]
        lacking = {0: [late], 2: [middle], 4: [early]}.get(hour, [])
        table = rows(at, [name for name in names if name not in lacking])
        write_snapshot(
            lake, with_sweep(table, expected=names, transport="http", started=at, ended=at + HOUR / 60, cause="10028 too_many_requests")
        )
    told = {gap["instrument"]: (gap["opened_at"], gap["closed_at"], gap["cause"]) for gap in listing(lake).to_pylist()}
    assert told == {
        late: (None, MIDNIGHT + HOUR, "rate limited"),
        middle: (MIDNIGHT + HOUR, MIDNIGHT + 3 * HOUR, "rate limited"),
        early: (MIDNIGHT + 3 * HOUR, None, "rate limited"),
    }


def test_what_a_whole_sweep_lacks_the_exchange_did_not_list(lake) -> None:
    for hour in range(3):
        at = MIDNIGHT + hour * HOUR
        names = [name for name in listed(at) if hour != 1 or name != listed(MIDNIGHT)[0]]
        write_snapshot(lake, with_sweep(rows(at, names), expected=names, transport="http", started=at, ended=at))
    assert [(gap["kind"], gap["cause"]) for gap in listing(lake).to_pylist()] == [("strike", "exchange")]


def test_a_file_that_cannot_be_read_is_passed_over(lake) -> None:
    for hour in range(3):
        at = MIDNIGHT + hour * HOUR
        record = write_snapshot(lake, rows(at, listed(at)))
    lake.files.write(record.path, b"torn")
    assert listing(lake).num_rows == 0


def test_an_expiry_outside_the_calendar_is_told_to_be(lake) -> None:
    odd = option_name("BTC", dt.datetime(2026, 5, 6, 8, tzinfo=dt.UTC), 90_000.0, "C")
    for hour in range(3):
        at = MIDNIGHT + hour * HOUR
        write_snapshot(lake, rows(at, listed(at) + ([odd] if hour != 1 else [])))
    assert [(gap["kind"], gap["detail"]) for gap in listing(lake).to_pylist()] == [("expiry", "not in the listing calendar")]


def test_what_has_expired_is_no_gap_even_where_a_spoilt_row_comes_after(lake) -> None:
    dying = [name for name in listed(MIDNIGHT) if "-30JAN26-" in name]
    for hour in range(6, 14):
        at = MIDNIGHT + hour * HOUR
        write_snapshot(lake, rows(at, listed(at) + (dying[:1] if hour in {10, 13} else [])))
    assert listing(lake).num_rows == 0


def without(names: list[str], expiry: dt.datetime) -> list[str]:
    """The names but those of one expiry."""
    return [name for name in names if parse_option(name).expiry != expiry]


def test_an_expiry_that_never_comes_back_is_missing_until_it_expires(lake) -> None:
    gone = listed_expiries(MIDNIGHT)[1]  # tomorrow, 08:00
    for hour in range(HOURS):
        at = MIDNIGHT + hour * HOUR
        write_snapshot(lake, rows(at, without(listed(at), gone) if hour >= 5 else listed(at)))
    (row,) = listing(lake).to_pylist()
    assert (row["kind"], row["expiry"], row["opened_at"], row["closed_at"]) == ("expiry", gone, MIDNIGHT + 4 * HOUR, None)
    assert (row["first_missing"], row["last_missing"], row["missing"]) == (MIDNIGHT + 5 * HOUR, gone - HOUR, 27)


def test_a_contract_that_never_comes_back_is_missing_and_one_seen_once_may_be_a_spoilt_name(lake) -> None:
    gone, spoilt = listed(MIDNIGHT)[-1], listed(MIDNIGHT)[-1].replace("90000", "9000")
    for hour in range(6):
        at = MIDNIGHT + hour * HOUR
        names = [name for name in listed(at) if name != gone or hour < 4]
        write_snapshot(lake, rows(at, [*names, spoilt] if hour == 2 else names))
    assert found(listing(lake)) == {("strike", gone, MIDNIGHT + 3 * HOUR, None, 2)}


def whole_calendar(at: dt.datetime) -> list[str]:
    return [option_name("BTC", expiry, 90_000.0, "C") for expiry in listed_expiries(at)]


def test_an_expiry_the_calendar_names_is_missing_though_it_was_never_seen_or_seen_late(lake) -> None:
    never, late = listed_expiries(MIDNIGHT)[-1], listed_expiries(MIDNIGHT)[-2]
    for hour in range(12):  # at 08:00 an expiry is opened: it has an hour to appear
        at = MIDNIGHT + hour * HOUR
        names = without(whole_calendar(at), never)
        names = without(names, late) if hour < 3 else names
        write_snapshot(lake, rows(at, without(names, listed_expiries(at)[3]) if hour == 8 else names))
    assert found(listing(lake)) == {
        ("expiry", never.isoformat(), None, None, 12),
        ("expiry", late.isoformat(), None, MIDNIGHT + 3 * HOUR, 3),
    }


def test_the_calendar_says_nothing_of_a_selection_nor_of_families_it_does_not_know(lake) -> None:
    for hour in range(3):
        at = MIDNIGHT + hour * HOUR
        write_snapshot(lake, rows(at, whole_calendar(at)[:5]))
    assert listing(lake).num_rows == 0


@st.composite
def holes(draw) -> Iterator[dict[str, dict[dt.datetime, set[str]]]]:
    """Two regions over 60 hours, each with its own lost snapshots, expiries and strikes, some for good; beginnings are whole."""
    harvested = {}
    for region in ("eu1", "us1"):
        lost = draw(st.sets(st.integers(1, HOURS - 2), max_size=8))
        seen = {MIDNIGHT + h * HOUR: set(listed(MIDNIGHT + h * HOUR)) for h in range(HOURS) if h not in lost}
        inner = sorted(seen)[1:-1]
        for at in draw(st.lists(st.sampled_from(inner), max_size=4)):
            expiry = draw(st.sampled_from(listed_expiries(at)[:3]))
            seen[at] = {name for name in seen[at] if not name.startswith(option_name("BTC", expiry, 1.0, "C").rsplit("-", 2)[0] + "-")}
        for at in draw(st.lists(st.sampled_from(inner), max_size=6)):
            gone = draw(st.sampled_from(sorted(seen[at])))
            seen[at].discard(gone)
        for at in draw(st.lists(st.sampled_from(inner), max_size=2)):
            vanishing = draw(st.sampled_from(sorted(seen[at]) or [""]))
            family = vanishing.rsplit("-", 2)[0] + "-" if draw(st.booleans()) else vanishing
            for later in (other for other in seen if other >= at):
                seen[later] = {name for name in seen[later] if not (family and name.startswith(family))}
        harvested[region] = seen
    return harvested


@hypothesis_settings(max_examples=12, deadline=None, suppress_health_check=list(HealthCheck))
@given(harvested=holes(), compacted=st.booleans())
def test_random_holes_of_every_kind_are_found_exactly(tmp_path_factory, harvested, compacted) -> None:
    lake = open_lake(load_settings(home=tmp_path_factory.mktemp("lake")))
    for region, seen in harvested.items():
        for at, names in seen.items():
            write_snapshot(lake, rows(at, sorted(names), region=region))
    if compacted:
        compact_raw_day(lake, "BTC", MIDNIGHT.date())
    together: dict[dt.datetime, set[str]] = {}
    for seen in harvested.values():
        for at, names in seen.items():
            together[at] = together.get(at, set()) | names
    intervals = find_gaps(lake, "BTC", MIDNIGHT.date(), (MIDNIGHT + HOURS * HOUR).date(), interval=HOUR)
    contracts = listing(lake)
    for region, seen in {**harvested, ANY_REGION: together}.items():
        mine = [table.filter(table["region"].to_numpy(zero_copy_only=False) == region) for table in (intervals, contracts)]
        assert found(mine[0]) == missing_intervals(set(seen), HOUR)
        assert found(mine[1]) == missing_contracts(seen)
