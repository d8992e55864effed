"""Runs held against each other: every way in which two can differ is handled, and said."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from options_agent.backtest.diff import DIFF_SCHEMA, compare_runs
from options_agent.backtest.report import REPORT_VERSION
from options_agent.backtest.saved_runs import find_runs, label_of
from options_agent.errors import DataError
from options_agent.strategies.catalogue import CATALOGUE
from tests.unit.backtest.saved import copied, put, retell, rewrite, saved, table_of
from tests.unit.backtest.worlds import START, World, random_world

CALL = CATALOGUE["covered_call"]


@pytest.fixture(scope="module")
def world() -> World:
    return random_world(7, snapshots=120)


@pytest.fixture(scope="module")
def folder(world: World, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("reports")


@pytest.fixture(scope="module")
def call(world: World, folder: Path) -> Path:
    return saved(world.play(CALL), folder)


@pytest.fixture(scope="module")
def cheap(world: World, folder: Path) -> Path:
    """The same rules at other costs."""
    return saved(world.play(CALL, crossing=0.5, fee_schedule="none"), folder)


@pytest.fixture(scope="module")
def strangle(world: World, folder: Path) -> Path:
    return saved(world.play(CATALOGUE["short_strangle"]), folder)


@pytest.fixture(scope="module")
def ether(folder: Path) -> Path:
    return saved(random_world(8, snapshots=150, underlying="ETH").play(CALL), folder)


def compared(*reports: Path, base: Path | None = None, among: list[dict[str, Any]] | None = None) -> dict[str, Any]:
    runs, said = find_runs([str(r) for r in reports], Path("nowhere"), None if base is None else str(base))
    document = compare_runs(runs, among=among or [], said=said)
    jsonschema.validate(document, DIFF_SCHEMA)
    json.dumps(document, allow_nan=False)
    return document


def says(document: dict[str, Any], what: str) -> str:
    return " ".join(d["says"] for d in document["differences"] if d["what"] == what)


def kinds(document: dict[str, Any], *, matters: bool | None = None) -> set[str]:
    return {d["what"] for d in document["differences"] if matters is None or d["matters"] == matters}


def part(report: Path, folder: Path, first: int, last: int, run: str) -> Path:
    """A run that saw only snapshots [first, last) of another's; trades and fills outside are gone."""
    copy = copied(report, folder, run)
    equity = table_of(copy, "equity").slice(first, last - first)
    start, end = equity["ts"][0].as_py(), equity["ts"][-1].as_py()
    put(copy, "equity", equity)
    retell(copy, lambda c: c["range"].update(start=start.isoformat(), end=end.isoformat()))
    for name, column in (("trades", "opened_at"), ("fills", "ts"), ("decisions", "ts")):
        table = table_of(copy, name)
        put(copy, name, table.filter(pa_array([start <= t <= end for t in table[column].to_pylist()])))
    return copy


def pa_array(values: list[bool]) -> Any:
    import pyarrow as pa

    return pa.array(values, pa.bool_())


# --- the document


def test_two_runs_that_differ_in_costs(call: Path, cheap: Path) -> None:
    document = compared(call, cheap)
    assert [r["label"] for r in document["runs"]] == ["A", "B"]
    assert document["base"] == "A"
    assert document["looks"] == 2
    assert kinds(document) == {"settings", "fees"}
    assert "crossing: A 1; B 0.5" in says(document, "settings")
    assert "A deribit; B none" in says(document, "fees")
    (pair,) = document["pairs"]
    assert pair["daily"]["coin"]["return_difference"]["value"] > 0
    assert pair["daily"]["coin"]["correlation"] > 0.9


def test_where_ranges_are_the_same_the_shared_figures_are_the_reports(call: Path, cheap: Path) -> None:
    for run, path in zip(compared(call, cheap)["runs"], (call, cheap), strict=True):
        report = json.loads(path.read_text())
        for name, value in report["metrics"].items():
            assert run["common"]["metrics"][name] == (None if value is None else pytest.approx(value, rel=1e-12)), name
        assert run["common"]["uncertainty"] == report["uncertainty"]
        assert run["common"]["drawdowns"] == report["drawdowns"]
        assert run["whole"]["metrics"].items() >= report["metrics"].items()
        for currency, odds in run["whole"]["deflated_sharpe"].items():
            assert run["common"]["deflated_sharpe"][currency] == pytest.approx(odds, rel=1e-12)


def test_the_same_comparison_is_the_same_bytes(call: Path, strangle: Path) -> None:
    assert json.dumps(compared(call, strangle)) == json.dumps(compared(call, strangle))


def test_runs_are_told_apart_only_where_the_interval_leaves_zero_out(call: Path, cheap: Path, strangle: Path) -> None:
    (pair,) = compared(call, cheap)["pairs"]
    gap = pair["daily"]["coin"]["return_difference"]
    assert 0 < gap["low"] < gap["value"] < gap["high"]
    assert gap["odds"] == 1.0
    assert "leaves 0 out" in pair["says"][0]
    for currency, sentence in zip(("coin", "usd"), compared(call, strangle)["pairs"][0]["says"], strict=False):
        gap = compared(call, strangle)["pairs"][0]["daily"][currency]["return_difference"]
        assert ("holds 0" in sentence) == (gap["low"] <= 0 <= gap["high"])


def test_the_series_begins_at_one_and_ends_at_the_return(call: Path, strangle: Path) -> None:
    document = compared(call, strangle)
    series = document["series"]
    assert series["at"] == sorted(series["at"])
    for run in document["runs"]:
        values = series["runs"][run["label"]]
        for currency in ("coin", "usd"):
            assert values[currency][0] == 1.0
            assert values[currency][-1] - 1 == pytest.approx(run["common"]["metrics"][f"return_{currency}"], abs=1e-12)
    assert set(series["runs"]["A"]["less_base_usd"]) == {0.0}
    assert series["runs"]["B"]["less_base_coin"][-1] == pytest.approx(document["pairs"][0]["daily"]["coin"]["equity_difference"]["end"])


def test_every_look_counts_against_the_sharpe_ratio(call: Path, cheap: Path, strangle: Path) -> None:
    others = [json.loads(strangle.read_text()) | {"run": f"{n:012x}"} for n in range(30)]
    few, many = compared(call, cheap), compared(call, cheap, among=others)
    assert (few["looks"], many["looks"]) == (2, 32)
    for a, b in zip(few["runs"], many["runs"], strict=True):
        assert b["common"]["deflated_sharpe"]["coin"] < a["common"]["deflated_sharpe"]["coin"]
        assert b["whole"]["deflated_sharpe"]["coin"] < a["whole"]["deflated_sharpe"]["coin"]


def test_the_base_goes_first_and_need_not_be_among_the_runs(call: Path, cheap: Path, strangle: Path) -> None:
    swapped = compared(call, cheap, base=cheap)
    assert [r["run"] for r in swapped["runs"]] == [r["run"] for r in reversed(compared(call, cheap)["runs"])]
    assert swapped["differences"] != []
    assert "request" not in kinds(swapped)
    gap, back = (d["pairs"][0]["daily"]["usd"]["return_difference"] for d in (compared(call, cheap), swapped))
    assert gap["value"] == pytest.approx(-back["value"])
    assert gap["low"] == pytest.approx(-back["high"])
    three = compared(call, cheap, base=strangle)
    assert [p["base"] for p in three["pairs"]] == ["A", "A"]
    assert three["runs"][0]["strategy"] == "short_strangle"


# --- what differs


def test_one_rule_that_differs_is_named(world: World, call: Path, tmp_path: Path) -> None:
    other = saved(world.play(dataclasses.replace(CALL, exit=dataclasses.replace(CALL.exit, take_profit=0.25))), tmp_path)
    document = compared(call, other)
    assert kinds(document) == {"strategy"}
    assert says(document, "strategy") == "Rule exit.take_profit: A 0.5; B 0.25."


def test_other_strategies_are_told_in_words(call: Path, strangle: Path, cheap: Path) -> None:
    words = says(compared(call, strangle, cheap), "strategy")
    assert words.startswith("Different strategies. A and C covered_call: sell 1 0.25-delta call")
    assert ". B short_strangle: sell 1 " in words


def test_other_data_of_the_same_days(call: Path, tmp_path: Path) -> None:
    def with_days(report: Path, days: dict[str, str], fingerprint: str) -> Path:
        data = [{"day": day, "sha256": digest} for day, digest in days.items()]
        return retell(report, lambda c: c["provenance"].update(data=data, data_fingerprint=fingerprint))

    days = {f"2026-01-{n:02d}": "aa" for n in range(5, 25)}
    first = with_days(copied(call, tmp_path, "0" * 12), days, "x" * 64)
    corrected = with_days(copied(call, tmp_path, "1" * 12), days | {"2026-01-07": "bb", "2025-12-01": "cc"}, "y" * 64)
    document = compared(first, corrected)
    assert "The data differ on 1 day of the time they share (2026-01-07)" in says(document, "data")
    holed = with_days(copied(call, tmp_path, "2" * 12), {d: h for d, h in days.items() if d not in ("2026-01-09", "2026-01-10")}, "z" * 64)
    assert "B has no data on 2 days that another run has (2026-01-09, 2026-01-10)." in says(compared(first, holed), "data")
    elsewhere = with_days(copied(call, tmp_path, "3" * 12), days | {"2025-12-01": "cc"}, "w" * 64)
    document = compared(first, elsewhere)
    assert "outside the time they share" in says(document, "data")
    assert "data" not in kinds(document, matters=True)


def test_other_code_is_said(call: Path, cheap: Path, tmp_path: Path) -> None:
    older = retell(copied(cheap, tmp_path), lambda c: c["provenance"].update(code_sha256="f" * 64, code_commit=None, code_version="0.0.9"))
    words = says(compared(call, older), "code")
    assert "version 0.0.9, commit unknown, sources ffffffffffff" in words
    assert "run both again with one version" in words


def test_a_setting_that_one_version_did_not_have(call: Path, cheap: Path, tmp_path: Path) -> None:
    newer = retell(copied(cheap, tmp_path), lambda c: c["provenance"]["settings"].update(imagined=0.1))
    document = compared(call, newer)
    assert "Setting imagined is not in every report" in says(document, "settings")
    silent = retell(copied(cheap, tmp_path / "silent"), lambda c: c["provenance"].pop("settings"))
    assert "What B was played with is not known" in says(compared(call, silent), "settings")


def test_other_capital_is_told_as_what_the_account_began_with(world: World, call: Path, tmp_path: Path) -> None:
    document = compared(
        call, saved(world.play(CALL, capital_coin=2.0), tmp_path), saved(world.play(CATALOGUE["cash_secured_put"]), tmp_path)
    )
    words = says(document, "capital")
    assert "A 1 BTC; B 2 BTC; C " in words
    assert "USD" in words.partition("C ")[2]
    assert "settings" not in kinds(document)


def test_different_ranges_are_measured_anew_on_the_time_they_share(call: Path, tmp_path: Path) -> None:
    early, late = part(call, tmp_path, 0, 80, "0" * 12), part(call, tmp_path, 20, 120, "1" * 12)
    document = compared(early, late)
    equity = table_of(call, "equity")
    span = document["common_range"]
    assert span["start"] == equity["ts"][20].as_py().isoformat()
    assert span["end"] == equity["ts"][79].as_py().isoformat()
    assert "measured anew" in says(document, "range")
    expected = equity["equity_usd"][79].as_py() / equity["equity_usd"][20].as_py() - 1
    for run in document["runs"]:
        assert run["common"]["metrics"]["return_usd"] == pytest.approx(expected)
        assert run["common"]["metrics"]["return_usd"] != pytest.approx(run["whole"]["metrics"]["return_usd"])
    assert "edges" in kinds(document)
    assert "A enters the common range with" in says(document, "edges")


def test_the_future_of_a_run_does_not_change_the_shared_figures(call: Path, tmp_path: Path) -> None:
    short = part(call, tmp_path, 0, 60, "0" * 12)
    end = table_of(short, "equity")["ts"][-1].as_py()

    def spoil(row: dict[str, Any]) -> None:
        if row["ts"] > end:
            row.update(equity_coin=row["equity_coin"] * 3, equity_usd=row["equity_usd"] * 3)

    other = rewrite(copied(call, tmp_path / "spoilt"), "equity", spoil)
    before, after = (compared(short, whole)["runs"][1]["common"] for whole in (call, other))
    assert before == after


def test_no_time_in_common(call: Path, cheap: Path, tmp_path: Path) -> None:
    first, last = part(call, tmp_path, 0, 40, "0" * 12), part(cheap, tmp_path, 60, 120, "1" * 12)
    document = compared(first, last)
    assert document["common_range"] is None
    assert document["series"] is None
    assert "There is no time that all of them cover" in says(document, "no_overlap")
    assert all(run["common"] is None and run["whole"]["metrics"] for run in document["runs"])
    (pair,) = document["pairs"]
    assert pair["range"] is None
    assert pair["says"] == ["A and B share no time: the two are not compared."]
    touching = part(cheap, tmp_path, 39, 120, "2" * 12)
    assert compared(first, touching)["common_range"] is None


def test_three_runs_of_which_only_neighbours_overlap(call: Path, cheap: Path, strangle: Path, tmp_path: Path) -> None:
    runs = [part(call, tmp_path, 0, 50, "0" * 12), part(cheap, tmp_path, 30, 90, "1" * 12), part(strangle, tmp_path, 70, 120, "2" * 12)]
    document = compared(*runs)
    assert document["common_range"] is None
    assert [p["range"] is None for p in document["pairs"]] == [False, True]
    assert document["pairs"][0]["daily"] is not None


def test_a_short_common_range_has_no_ratios(call: Path, cheap: Path, tmp_path: Path) -> None:
    document = compared(part(call, tmp_path, 0, 12, "0" * 12), part(cheap, tmp_path, 0, 12, "1" * 12))
    assert "too few for ratios" in says(document, "short")
    gap = document["pairs"][0]["daily"]["usd"]["return_difference"]
    assert gap["value"] is not None
    assert gap["low"] is gap["odds"] is None
    assert document["pairs"][0]["daily"]["usd"]["correlation"] is None
    assert "this proves nothing" in document["pairs"][0]["says"][1] or "exactly" in document["pairs"][0]["says"][1]


def test_bitcoin_against_ether(call: Path, ether: Path) -> None:
    document = compared(call, ether)
    assert {"underlying", "currency", "capital"} <= kinds(document, matters=True)
    assert "Compare in USD" in says(document, "underlying")
    assert "A BTC; B ETH" in says(document, "currency")
    (pair,) = document["pairs"]
    assert not pair["trades"]["compared"]
    assert "no contract in common" in pair["trades"]["why"]
    assert pair["says"][0].startswith("In USD")
    assert not any(s.startswith("In BTC") for s in pair["says"])
    assert all(run["common"]["metrics"]["fees_share"] > 0 for run in document["runs"])


def test_one_coin_settled_in_two_currencies(call: Path, cheap: Path, tmp_path: Path) -> None:
    linear = retell(copied(cheap, tmp_path), lambda c: c.update(underlying="BTC_USDC"))
    document = compared(call, linear)
    assert says(document, "underlying") == "Different underlyings (A BTC; B BTC_USDC). No trade is matched between them."
    assert says(document, "currency") == "Settled in different currencies: A BTC; B USDC."
    assert [(r["coin"], r["currency"]) for r in document["runs"]] == [("BTC", "BTC"), ("BTC", "USDC")]
    assert document["pairs"][0]["says"][0].startswith("In BTC")
    odd = retell(copied(cheap, tmp_path / "odd"), lambda c: c.update(underlying="BTC_EURR"))
    assert "B EURR" in says(compared(call, odd), "currency")


def test_holes_and_snapshots_that_only_one_has(call: Path, cheap: Path, tmp_path: Path) -> None:
    holed = copied(cheap, tmp_path, "1" * 12)
    equity = table_of(holed, "equity")
    keep = [not 40 <= n < 52 and n != 70 for n in range(equity.num_rows)]
    put(holed, "equity", equity.filter(pa_array(keep)))
    document = compared(call, holed)
    assert "B lacks 13 snapshots that another run has, the first" in says(document, "snapshots")
    assert "A lack" not in says(document, "snapshots")
    assert "B has 1 hole (" in says(document, "holes")
    assert "Largest drawdown as seen at the snapshots all of them have: A " in says(document, "snapshots")


def test_a_clock_some_seconds_apart_is_no_missing_snapshot(call: Path, cheap: Path, tmp_path: Path) -> None:
    import datetime as dt

    shifted = rewrite(copied(cheap, tmp_path), "equity", lambda row: row.update(ts=row["ts"] + dt.timedelta(seconds=40)))
    assert "snapshots" not in kinds(compared(call, shifted))


# --- empty, inconclusive, damaged


def test_a_run_that_never_traded(world: World, call: Path, tmp_path: Path) -> None:
    idle = dataclasses.replace(CALL, filters=dataclasses.replace(CALL.filters, min_premium=9.0))
    document = compared(call, saved(world.play(idle), tmp_path))
    assert "B never traded" in says(document, "empty")
    assert "B is INCONCLUSIVE: 0 closed trades" in says(document, "status")
    coin = document["pairs"][0]["daily"]["coin"]
    assert coin["correlation"] is None
    assert coin["sharpe_difference"] == {"value": None, "low": None, "high": None, "odds": None}
    assert coin["return_difference"]["low"] is not None
    assert document["runs"][1]["common"]["metrics"]["win_rate"] is None
    assert document["pairs"][0]["trades"]["counts"]["only_other"] == 0
    assert "premium too small" in document["pairs"][0]["trades"]["trades"][0]["why"][0]


def test_two_runs_that_never_traded_return_the_same(world: World, tmp_path: Path) -> None:
    idle = [dataclasses.replace(CALL, filters=dataclasses.replace(CALL.filters, min_premium=p)) for p in (8.0, 9.0)]
    document = compared(*(saved(world.play(one), tmp_path) for one in idle))
    assert document["pairs"][0]["says"][0].startswith("In BTC B returned exactly what A did")
    assert document["pairs"][0]["trades"]["trades"] == []


def test_a_run_without_a_snapshot(call: Path, cheap: Path, tmp_path: Path) -> None:
    empty = copied(cheap, tmp_path)
    for name in ("equity", "trades", "fills", "decisions"):
        put(empty, name, table_of(empty, name).slice(0, 0))
    document = compared(call, empty)
    assert "B is empty: it has no snapshot." in says(document, "empty")
    assert document["pairs"][0]["says"] == ["B has no equity: the two are not compared."]
    both = copied(empty, tmp_path / "both", "1" * 12)
    assert compared(empty, both)["common_range"] is None


@pytest.mark.parametrize("damage", ["missing", "torn", "no column"])
@pytest.mark.parametrize("table", ["equity", "trades", "fills", "decisions"])
def test_a_table_that_is_missing_or_torn(call: Path, cheap: Path, tmp_path: Path, table: str, damage: str) -> None:
    hurt = copied(cheap, tmp_path)
    path = hurt.with_suffix("") / f"{table}.parquet"
    if damage == "missing":
        path.unlink()
    elif damage == "torn":
        path.write_bytes(path.read_bytes()[:200])
    else:
        put(
            hurt,
            table,
            table_of(hurt, table).drop_columns(
                [{"equity": "equity_usd", "trades": "exit", "fills": "price", "decisions": "action"}[table]]
            ),
        )
    document = compared(call, hurt)
    words = says(document, "tables")
    assert f"B: its table of {table} " in words
    assert {"missing": "is missing", "torn": "is torn", "no column": "has no column"}[damage] in words
    run, pair = document["runs"][1], document["pairs"][0]
    assert run["whole"]["metrics"]["return_coin"] is not None
    if table == "equity":
        assert run["common"] is None
        assert "only the whole-range figures" in words
    else:
        assert run["common"]["metrics"]["return_coin"] is not None
    if table in ("trades", "fills"):
        assert run["common"]["metrics"]["trades"] is run["common"]["metrics"]["fees_coin"] is None
        assert pair["trades"]["why"] == "the trades of B cannot be read"
    if table == "decisions":
        assert pair["trades"]["compared"]
        assert "closed" in pair["trades"]["exits"]["other"]


def test_tables_of_another_run_are_noticed(call: Path, cheap: Path, tmp_path: Path) -> None:
    mixed = copied(cheap, tmp_path)
    retell(mixed, lambda c: c["range"].update(snapshots=999))
    assert "its table of equity has 120 rows where its report counts 999" in says(compared(call, mixed), "tables")


def test_snapshots_without_equity_and_out_of_order(call: Path, cheap: Path, tmp_path: Path) -> None:
    blank = copied(cheap, tmp_path / "blank")
    rows = table_of(blank, "equity").to_pylist()
    for row in rows[30:33]:
        row["equity_usd"] = float("nan")
    rows[33]["equity_coin"] = None
    put(blank, "equity", type(table_of(blank, "equity")).from_pylist(rows, schema=table_of(blank, "equity").schema))
    document = compared(call, blank)
    assert "4 of its snapshots have no equity and are left out" in says(document, "tables")
    assert document["runs"][1]["common"]["metrics"]["return_usd"] is not None
    turned = copied(cheap, tmp_path / "turned")
    table = table_of(turned, "equity")
    put(turned, "equity", table.take(list(range(table.num_rows))[::-1]))
    assert "not in the order of time" in says(compared(call, turned), "tables")


def test_a_ruined_account_has_a_return_and_no_ratio(call: Path, cheap: Path, tmp_path: Path) -> None:
    def ruin(row: dict[str, Any]) -> None:
        if row["ts"] > START.replace(day=20):
            row.update(equity_coin=-0.1, equity_usd=-9_000.0)

    document = compared(call, rewrite(copied(cheap, tmp_path), "equity", ruin))
    common = document["runs"][1]["common"]["metrics"]
    assert common["return_coin"] < -1
    assert common["sharpe_coin"] is None
    assert document["pairs"][0]["daily"]["coin"]["return_difference"]["low"] is None


# --- which runs


def test_the_same_run_given_twice(call: Path, cheap: Path) -> None:
    with pytest.raises(DataError, match="one run only"):
        find_runs([str(call), str(call)], call.parent)
    with pytest.raises(DataError, match="one run only"):
        find_runs([str(call), call.stem[-12:]], call.parent)
    with pytest.raises(DataError, match="one run only"):
        find_runs([str(call)], call.parent)
    with pytest.raises(DataError, match="no run"):
        find_runs([], call.parent)
    document = compared(call, cheap, call)
    assert len(document["runs"]) == 2
    assert "was given more than once and stands here once" in says(document, "request")


def test_one_run_in_two_files_must_be_the_same(call: Path, tmp_path: Path) -> None:
    document = compared(call, copied(call, tmp_path))
    assert "A and B are one run" in says(document, "same_run")
    assert document["looks"] == 2
    counts = document["pairs"][0]["trades"]["counts"]
    assert counts["same"] == table_of(call, "trades").num_rows
    assert document["pairs"][0]["daily"]["coin"]["correlation"] == pytest.approx(1.0)


def test_runs_are_found_by_hash_path_and_folder_of_tables(call: Path, cheap: Path) -> None:
    folder, expected = call.parent, [call.stem, cheap.stem]
    for wanted in (
        [call.stem[-12:], cheap.stem[-12:-4]],
        [str(call), str(cheap.with_suffix(""))],
        [str(call.with_suffix(".png")), cheap.stem[-12:]],
    ):
        assert [r.path.stem for r in find_runs(wanted, folder)[0]] == expected


def test_a_hash_of_no_run_or_of_several(call: Path, cheap: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"0 reports have a run that starts with 'zz'") as nothing:
        find_runs(["zz", str(call)], call.parent)
    assert "report" in str(nothing.value.remedy)
    for run in ("abc111111111", "abc222222222"):
        copied(call, tmp_path, run)
    with pytest.raises(DataError, match=r"2 reports have a run that starts with 'abc': .*abc111111111") as several:
        find_runs(["abc", str(call)], tmp_path)
    assert "more of its hash" in str(several.value.remedy)
    with pytest.raises(DataError, match="0 reports"):
        find_runs(["", str(call)], tmp_path)
    with pytest.raises(DataError, match="no report at"):
        find_runs([str(tmp_path / "nothing.json"), str(call)], tmp_path)


def test_a_report_of_an_older_schema(call: Path, cheap: Path, tmp_path: Path) -> None:
    older = copied(cheap, tmp_path)
    retell(
        older, lambda c: [c.pop(name) for name in ("uncertainty", "drawdowns", "capital", "status_reasons")] and c.update(schema_version=0)
    )
    document = compared(call, older)
    assert f"schema version 0, this program writes {REPORT_VERSION}" in says(document, "schema")
    run = document["runs"][1]
    assert run["whole"]["uncertainty"] is None
    assert run["common"]["uncertainty"]["intervals"]["return_coin"] is not None
    assert "B unknown" in says(document, "capital")
    retell(older, lambda c: [c.pop(name) for name in ("metrics", "provenance")] and c["range"].pop("end"))
    with pytest.raises(DataError, match=r"does not say metrics, provenance, range\.end"):
        compared(call, older)


def test_a_report_of_a_later_schema_is_refused(call: Path, cheap: Path, tmp_path: Path) -> None:
    later = retell(copied(cheap, tmp_path), lambda c: c.update(schema_version=REPORT_VERSION + 1))
    with pytest.raises(DataError, match="knows up to") as refused:
        compared(call, later)
    assert refused.value.place == str(later)
    torn = copied(cheap, tmp_path / "torn")
    torn.write_text(torn.read_text()[:300])
    with pytest.raises(DataError, match="not a backtest report"):
        compared(call, torn)


def test_many_runs_have_labels_and_a_matrix(call: Path, tmp_path: Path) -> None:
    runs = [copied(call, tmp_path, f"{n:012x}") for n in range(28)]
    document = compared(*runs)
    assert [r["label"] for r in document["runs"]][24:] == ["Y", "Z", "AA", "AB"]
    assert label_of(51) == "AZ"
    assert label_of(52) == "BA"
    assert document["correlation"]["labels"][:2] == ["A", "B"]
    assert all(value == pytest.approx(1) for row in document["correlation"]["usd"] for value in row)
