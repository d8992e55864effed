"""Fees are data: every version has its day and source, a user's table is checked line by line, arrays say what was in force."""

from __future__ import annotations

import datetime as dt
import tomllib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from options_agent.backtest.costs import FEE_COLUMNS, delivery_fees, fees_at, schedule, trading_fees, version_at
from options_agent.backtest.fee_table import FIGURES, FOLDER, FeeVersion, shipped
from options_agent.contracts import expiry_kind
from options_agent.errors import SettingsError

DERIBIT = schedule("deribit")
WHOLE = (FOLDER / "deribit.toml").read_text(encoding="utf-8")
DAYS = st.dates(dt.date(2014, 1, 1), dt.date(2032, 12, 31))


def _us(day: dt.date, time: dt.time = dt.time(8)) -> int:
    return int(dt.datetime.combine(day, time, tzinfo=dt.UTC).timestamp()) * 1_000_000


def _at(*days: dt.date) -> np.ndarray:
    return np.array([_us(day) for day in days], dtype=np.int64)


def _columns(day: dt.date, settlement: str = "coin") -> dict[str, float]:
    return dict(zip(FEE_COLUMNS, fees_at(DERIBIT, _at(day), settlement)[0], strict=True))


def test_every_shipped_table_reads_and_names_its_sources() -> None:
    assert shipped() == ("deribit", "none")
    for name in shipped():
        versions = schedule(name)
        assert all(v.source.strip() for v in versions)
        assert [v.effective_from for v in versions] == sorted({v.effective_from for v in versions})
    assert all(getattr(v, name) == 0 for v in schedule("none") for name in FIGURES)


@pytest.mark.parametrize(
    ("day", "taker", "cap"),
    [
        (dt.date(2015, 5, 1), 0.0004, 0.20),
        (dt.date(2018, 6, 1), 0.0004, 0.20),
        (dt.date(2019, 2, 1), 0.0004, 0.20),
        (dt.date(2019, 6, 1), 0.0004, 0.125),
        (dt.date(2021, 6, 1), 0.0003, 0.125),
        (dt.date(2026, 9, 1), 0.0003, 0.125),
    ],
    ids=str,
)
def test_options_paid_what_the_page_of_the_time_said(day: dt.date, taker: float, cap: float) -> None:
    row = _columns(day)
    assert (row["taker"], row["maker"], row["cap"]) == (taker, taker, cap)
    np.testing.assert_array_equal(trading_fees(DERIBIT, _at(day)), [[taker, cap]])


def test_the_combo_discount_and_the_one_percent_liquidation_start_at_midnight_of_their_day() -> None:
    combos, liquidation = dt.date(2022, 8, 18), dt.date(2026, 8, 1)
    before = fees_at(DERIBIT, np.array([_us(combos, dt.time(0)) - 1, _us(liquidation, dt.time(0)) - 1]), "coin")
    after = fees_at(DERIBIT, np.array([_us(combos, dt.time(0)), _us(liquidation, dt.time(0))]), "coin")
    combo, liquidated = FEE_COLUMNS.index("combo"), FEE_COLUMNS.index("liquidation")
    assert (before[0, combo], after[0, combo]) == (0.0, 1.0)
    assert (before[1, liquidated], after[1, liquidated]) == (0.0019, 0.01)


def test_the_perpetual_paid_rebates_until_the_schedule_of_2020() -> None:
    assert (_columns(dt.date(2019, 6, 1))["perpetual_maker"], _columns(dt.date(2019, 6, 1))["perpetual_taker"]) == (-0.00025, 0.00075)
    assert (_columns(dt.date(2024, 6, 1))["perpetual_maker"], _columns(dt.date(2024, 6, 1))["perpetual_taker"]) == (0.0, 0.0005)


def test_linear_options_pay_a_share_of_the_index_and_the_table_says_it_is_unsettled() -> None:
    row = _columns(dt.date(2025, 1, 1), "usdc")
    assert (row["taker"], row["maker"], row["cap"]) == (0.0003, 0.0003, 0.125)
    assert {"linear_taker", "linear_maker"} <= set(version_at(DERIBIT, dt.date(2025, 1, 1)).unsettled)


@given(days=st.lists(DAYS, min_size=1, max_size=20), settlement=st.sampled_from(["coin", "usdc"]))
def test_arrays_say_what_the_version_of_each_day_says(days: list[dt.date], settlement: str) -> None:
    rows, delivered = fees_at(DERIBIT, _at(*days), settlement), delivery_fees(DERIBIT, _at(*days), settlement)
    for day, row, delivery in zip(days, rows, delivered, strict=True):
        v = version_at(DERIBIT, day)
        coin = settlement == "coin"
        trading = (v.option_taker, v.option_maker, v.option_cap) if coin else (v.linear_taker, v.linear_maker, v.linear_cap)
        assert tuple(row) == (*trading, float(v.combo_discount), v.perpetual_taker, v.perpetual_maker, v.option_liquidation)
        due = (v.delivery, v.delivery_cap) if coin else (v.linear_delivery, v.linear_delivery_cap)
        daily = expiry_kind(dt.datetime.combine(day, dt.time(8), tzinfo=dt.UTC)) == "daily"
        assert tuple(delivery) == ((0.0, 0.0) if daily else due)


def test_delivery_is_free_for_dailies_on_every_day_of_four_years() -> None:
    days = [dt.date(2024, 1, 1) + dt.timedelta(days=n) for n in range(4 * 366)]
    free = delivery_fees(DERIBIT, _at(*days))[:, 0] == 0
    kinds = [expiry_kind(dt.datetime.combine(day, dt.time(8), tzinfo=dt.UTC)) for day in days]
    np.testing.assert_array_equal(free, [kind == "daily" for kind in kinds])


def test_no_times_give_no_rows() -> None:
    nothing = np.array([], dtype=np.int64)
    assert fees_at(DERIBIT, nothing, "coin").shape == (0, len(FEE_COLUMNS))
    assert delivery_fees(DERIBIT, nothing).shape == (0, 2)


def test_a_table_of_ones_own_is_used_like_a_shipped_one(tmp_path: Path) -> None:
    own = tmp_path / "mine.toml"
    own.write_text(WHOLE.replace("option_taker = 0.0003", "option_taker = 0.00021"), encoding="utf-8")
    versions = schedule(str(own))
    assert versions[-1].option_taker == 0.00021
    assert versions[-1].option_maker == DERIBIT[-1].option_maker
    own.write_text(WHOLE, encoding="utf-8")
    assert schedule(str(own)) == DERIBIT


def _table(tmp_path: Path, edit: tuple[str, str]) -> Path:
    """The shipped table with the last place of `edit[0]` replaced."""
    at = WHOLE.rindex(edit[0])
    path = tmp_path / "mine.toml"
    path.write_text(WHOLE[:at] + edit[1] + WHOLE[at + len(edit[0]) :], encoding="utf-8")
    return path


DEFECTS = {
    "missing figure": (("\ndelivery = 0.00015\n", "\n"), "delivery missing"),
    "missing source": (('source = "The same, with', 'note = "The same, with'), "source missing"),
    "empty source": (
        ('source = "The same, with a liquidation fee of 1 % on everything (second-hand)."', 'source = " "'),
        "source is empty",
    ),
    "unknown key": (("option_cap = ", "options_cap = 0.1\noption_cap = "), "unknown key 'options_cap'"),
    "negative taker": (("option_taker = 0.0003", "option_taker = -0.0003"), "option_taker = -0.0003 is negative"),
    "negative cap": (("delivery_cap = 0.125\nlinear", "delivery_cap = -0.125\nlinear"), "delivery_cap = -0.125 is negative"),
    "rebate beyond the fee": (("perpetual_maker = 0.0", "perpetual_maker = -0.001"), "pays more than perpetual_taker"),
    "percent for decimal": (("option_taker = 0.0003", "option_taker = 0.3"), "figures are decimals"),
    "cap in percent": (("option_cap = 0.125", "option_cap = 12.5"), "above 1"),
    "text for a number": (("option_taker = 0.0003", 'option_taker = "0.0003"'), "is no number"),
    "nan": (("option_taker = 0.0003", "option_taker = nan"), "is no number"),
    "switch as a number": (("combo_discount = true", "combo_discount = 1"), "neither true nor false"),
    "date in quotes": (("effective_from = 2026-08-01", 'effective_from = "2026-08-01"'), "is no date"),
    "date with a time": (("effective_from = 2026-08-01", "effective_from = 2026-08-01T00:00:00Z"), "is no date"),
    "days out of order": (
        ("effective_from = 2026-08-01", "effective_from = 2021-08-01"),
        "is before that of the version before, 2022-08-18",
    ),
    "a day twice": (("effective_from = 2026-08-01", "effective_from = 2022-08-18"), "is that of the version before as well"),
    "unsettled what": (('"linear_delivery_cap"]', '"weather"]'), "no list of this table's figures"),
}


@pytest.mark.parametrize("name", DEFECTS)
def test_a_defect_of_a_table_is_told_with_its_version_and_a_remedy(name: str, tmp_path: Path) -> None:
    edit, says = DEFECTS[name]
    path = _table(tmp_path, edit)
    with pytest.raises(SettingsError) as caught:
        schedule(str(path))
    assert says in caught.value.message
    assert caught.value.place == f"{path}, version 5"
    assert "options-agent fees deribit --toml" in str(caught.value.remedy)


@pytest.mark.parametrize(
    ("text", "says"),
    [("", "no [[version]]"), ("version = 1", "no [[version]]"), ("versions = []", "unknown key 'versions'"), ("[[version]", "is not TOML")],
    ids=["empty", "no list", "another key", "no TOML"],
)
def test_a_file_that_is_no_table_is_refused(text: str, says: str, tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(SettingsError) as caught:
        schedule(str(path))
    assert says in caught.value.message
    assert caught.value.place == str(path)


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    binary = tmp_path / "binary.toml"
    binary.write_bytes(b"\xff\xfe\x00")
    for path in (tmp_path / "absent.toml", tmp_path, binary):
        with pytest.raises(SettingsError, match="cannot be read") as caught:
            schedule(f"{path}/" if path.is_dir() else str(path))
        assert "OPTIONS_AGENT_BACKTEST__FEE_SCHEDULE" in str(caught.value.remedy)


def test_an_unknown_name_is_answered_with_the_known_ones() -> None:
    with pytest.raises(SettingsError, match="vip9") as caught:
        schedule("vip9")
    assert "deribit, none" in str(caught.value.remedy)


def test_the_docs_explain_every_figure() -> None:
    page = (Path(__file__).parents[3] / "docs" / "costs.md").read_text(encoding="utf-8")
    assert all(f"`{name}`" in page for name in (*FIGURES, "effective_from", "combo_discount", "source", "unsettled"))


def test_a_version_holds_every_key_of_the_file() -> None:
    row = tomllib.loads(WHOLE)["version"][0]
    assert set(row) == set(FeeVersion.__dataclass_fields__)
