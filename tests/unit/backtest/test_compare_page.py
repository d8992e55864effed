"""The comparison as a page: self-contained, safe, its pictures true to the numbers; and the texts it shares with the terminal."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest

from options_agent.backtest import compare_rows as rows
from options_agent.backtest.compare_drawings import Curve, _names, _ticks, chart, thinned
from options_agent.backtest.compare_page import page_of
from options_agent.backtest.diff import compare_runs, curves
from options_agent.backtest.saved_runs import find_runs
from options_agent.strategies.catalogue import CATALOGUE
from tests.unit.backtest.saved import copied, put, retell, saved, table_of
from tests.unit.backtest.worlds import random_world

DAY = 86_400_000_000


@pytest.fixture(scope="module")
def reports(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """A covered call, the same at other costs, a strangle, and one of ether that lasts longer."""
    folder, world = tmp_path_factory.mktemp("reports"), random_world(7, snapshots=100)
    ether = random_world(8, snapshots=120, underlying="ETH")
    return [
        saved(world.play(CATALOGUE["covered_call"]), folder),
        saved(world.play(CATALOGUE["covered_call"], crossing=0.5), folder),
        saved(world.play(CATALOGUE["short_strangle"]), folder),
        saved(ether.play(CATALOGUE["covered_call"]), folder),
    ]


def made(*reports: Path) -> tuple[dict[str, Any], str]:
    runs, said = find_runs([str(r) for r in reports], Path("nowhere"))
    document = compare_runs(runs, said=said)
    return document, page_of(document, curves(runs))


class Closed(HTMLParser):
    """Collects tags that were opened and never closed, or closed and never opened."""

    VOID = ("meta", "br", "line", "polyline", "path")

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.wrong: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag in self.VOID:
            return
        if not self.open or self.open.pop() != tag:
            self.wrong.append(tag)


def assert_sound(page: str) -> None:
    reader = Closed()
    reader.feed(page)
    assert (reader.open, reader.wrong) == ([], [])
    assert not re.search(r"(src|href)=|url\(|@import", page.replace("http://www.w3.org/2000/svg", ""))
    assert "None" not in page
    assert "nan" not in re.sub(r"[a-z]*nan[a-z]+|[a-z]+nan", "", page.lower())
    for svg in re.findall(r"<svg.*?</svg>", page, re.DOTALL):
        ElementTree.fromstring(svg)


def test_the_page_has_every_part_and_fetches_nothing(reports: list[Path]) -> None:
    document, page = made(*reports[:2])
    assert_sound(page)
    for words in (
        "Equity in BTC",
        "Equity in USD",
        "Drawdown in BTC",
        "Ahead of A in USD",
        "Differences that matter",
        "Setting crossing: A 1; B 0.5.",
    ):
        assert words in page, words
    assert page.count("<svg") == 6
    assert f"{document['looks']} runs were looked at" in page
    assert "whole range" not in page.partition("<h2>Figures</h2>")[2].partition("</table>")[0]
    for pair in document["pairs"]:
        assert all(sentence in page for sentence in pair["says"] if not sentence.startswith("Trades: "))


def test_many_runs_of_two_coins(reports: list[Path]) -> None:
    document, page = made(*reports)
    assert_sound(page)
    assert "Equity in coin" in page
    assert "each in its own coin" in page
    assert "Ahead of A in USD" in page
    assert "Ahead of A in coin" not in page
    assert "Correlation of daily returns" in page
    assert "Trades are not matched: A trades BTC and D ETH" in page
    assert rows.kinds_of(document) == ("common", "interval", "whole")
    assert page.count("coin held") >= 2


def test_without_a_common_time_each_curve_is_drawn_whole(reports: list[Path], tmp_path: Path) -> None:
    halves = []
    for n, (first, last) in enumerate(((0, 40), (60, 100))):
        half = copied(reports[0], tmp_path, f"{n:012x}")
        put(half, "equity", table_of(half, "equity").slice(first, last - first))
        halves.append(half)
    document, page = made(*halves)
    assert_sound(page)
    assert document["common_range"] is None
    assert rows.kinds_of(document) == ("whole", "interval")  # a whole range's figure stands with its interval, too
    line = next(line for line in rows.headlines(document) if line.name == "return_usd")
    low, high = document["runs"][0]["whole"]["uncertainty"]["intervals"]["return_usd"]
    assert line.cells[0].interval == rows.interval_words(low, high)
    assert f">{line.cells[0].interval}</td>" in page
    assert "each over its whole range, from its own start" in page
    assert "share no time that could be measured anew" in page
    assert page.count("<svg") == 4


@pytest.mark.parametrize("table", ["equity", "trades", "decisions"])
def test_a_damaged_run_still_makes_a_page(reports: list[Path], tmp_path: Path, table: str) -> None:
    hurt = copied(reports[1], tmp_path)
    (hurt.with_suffix("") / f"{table}.parquet").write_bytes(b"torn")
    _, page = made(reports[0], hurt)
    assert_sound(page)
    assert f"B: its table of {table} is torn" in page


def test_an_empty_and_an_old_run_still_make_a_page(reports: list[Path], tmp_path: Path) -> None:
    empty = copied(reports[1], tmp_path)
    for name in ("equity", "trades", "fills", "decisions"):
        put(empty, name, table_of(empty, name).slice(0, 0))
    retell(empty, lambda c: [c.pop(n) for n in ("uncertainty", "drawdowns", "capital")] and c["strategy"].pop("in_words"))
    retell(empty, lambda c: c["provenance"].update(code_sha256=None, data_fingerprint=None))
    assert_sound(made(reports[0], empty)[1])


def test_what_a_report_says_is_text_never_markup(reports: list[Path], tmp_path: Path) -> None:
    evil = retell(copied(reports[1], tmp_path), lambda c: c["strategy"].update(name="<script>alert(1)</script>", in_words="<b>x</b>"))
    page = made(reports[0], evil)[1]
    assert "<script>" not in page
    assert "<b>x</b>" not in page
    assert "&lt;script&gt;" in page


# --- drawings


def line(values: list[float], name: str = "A") -> Curve:
    return Curve(name, "#123456", np.arange(len(values), dtype=np.int64) * DAY, np.array(values, dtype=float))


def test_a_chart_of_nothing_is_nothing() -> None:
    assert chart([], label="x") == ""
    assert chart([line([np.nan, np.nan])], label="x") == ""


def test_a_flat_or_single_line_has_a_scale() -> None:
    for values in ([0.0, 0.0, 0.0], [5.0], [1e-12, 0.0]):
        svg = ElementTree.fromstring(chart([line(values)], label="x"))
        assert [e for e in svg if e.tag.endswith("polyline")]


def test_points_lie_where_their_values_are() -> None:
    svg = ElementTree.fromstring(chart([line([0.0, 10.0, 5.0])], label="x", high=100))
    (points,) = (e.attrib["points"].split() for e in svg if e.tag.endswith("polyline"))
    x, y = zip(*((float(a) for a in p.split(",")) for p in points), strict=True)
    assert x[1] - x[0] == pytest.approx(x[2] - x[1], abs=0.11)
    assert y[0] > y[2] > y[1]
    assert (y[0] - y[2]) == pytest.approx((y[0] - y[1]) / 2, abs=0.11)


def test_thinning_keeps_both_ends_and_every_extreme() -> None:
    random = np.random.default_rng(3)
    values = random.normal(size=100_000)
    values[54_321] = 99.0
    values[77] = np.nan
    ts = np.arange(values.size, dtype=np.int64)
    at, kept = thinned(ts, values)
    assert at.size <= 1_300
    assert (at[0], at[-1]) == (0, values.size - 1)
    assert kept.max() == 99.0
    assert kept.min() == np.nanmin(values)
    assert (np.diff(at) > 0).all()


@pytest.mark.parametrize(("low", "high"), [(-1, 1), (0, 0.003), (-97.3, 0), (-5, 1_234), (0, 1e-9)])
def test_ticks_are_few_and_round(low: float, high: float) -> None:
    ticks = _ticks(low, high)
    assert 2 <= len(ticks) <= 8
    assert all(low - 1e-12 <= t <= high + 1e-12 for t in ticks)


def test_names_at_the_end_do_not_lie_on_each_other() -> None:
    curves_ = [line([0.0, v], name) for v, name in ((1.0, "A"), (1.01, "B"), (0.99, "C"), (-40.0, "D"))]
    drawn = "".join(_names(curves_, lambda v: 50 - v, 90, "%"))
    places = sorted(float(y) for y in re.findall(r' y="([-\d.]+)"', drawn))
    assert min(np.diff(places)) >= 13.9
    assert max(places) <= 94.1


# --- texts


@pytest.mark.parametrize(
    ("value", "kind", "words"),
    [
        (None, "signed", "-"),
        (0.1234, "signed", "+12.34 %"),
        (0.05678, "share", "5.68 %"),
        (0.5678, "share", "56.8 %"),
        (12.0, "count", "12"),
        (-1234.5, "money", "-1,234"),
        (-0.001, "ratio", "0.00"),
        (-1.236, "ratio", "-1.24"),
        (0.000123456789, "plain", "0.000123457"),
    ],
)
def test_numbers_as_their_kind_is_read(value: float | None, kind: str, words: str) -> None:
    assert rows.number(value, kind) == words


def test_what_rests_on_few_trades_stands_in_brackets(reports: list[Path]) -> None:
    document, page = made(*reports[:2])
    for run, closed in zip(document["runs"], (10.0, 9.0), strict=True):
        run["common"]["metrics"]["closed_trades"] = closed
    lines = {line.name: [cell.common for cell in line.cells] for line in rows.headlines(document)}
    for name in ("win_rate", "average_days_held", "assignment_rate"):
        assert [text.startswith("(") for text in lines[name]] == [False, True], name
    assert not any(text.startswith("(") for text in (*lines["return_usd"], *lines["closed_trades"]))
    assert rows.FEW in page


def test_amounts_of_coin() -> None:
    assert [rows.coin_amount(v) for v in (None, 0.0, -1e-18, 0.0123456, -2.0)] == ["-", "0", "0", "+0.01235", "-2.00000"]
    assert rows.interval_words(None, 1.0) == ""
    assert rows.interval_words(-0.037, 0.22) == "-3.7..+22.0"
    assert rows.interval_words(0.01, 0.02, "share") == "1.0..2.0"
