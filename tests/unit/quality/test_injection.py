"""Known defects of every kind are caught, good rows are left alone, and an injection says exactly what it did."""

from __future__ import annotations

import datetime as dt

import numpy as np
import pytest

from options_agent.errors import SettingsError
from options_agent.market.synthetic.source import SyntheticSource
from options_agent.quality.injection import KINDS, inject
from options_agent.quality.judge import judge
from options_agent.quality.rules import NAMES
from options_agent.settings import QualitySettings, SyntheticSettings
from tests.unit.quality.market import NOON

STANDARD = QualitySettings()


@pytest.fixture(scope="module")
def market():
    import pyarrow as pa

    source = SyntheticSource(SyntheticSettings(defect_rate=0.0, outage_rate=0.0))
    return pa.concat_tables(list(source.snapshots("BTC", NOON, NOON + dt.timedelta(hours=12)))).combine_chunks()


def test_every_rule_has_its_defect() -> None:
    assert set(KINDS) == set(NAMES)
    with pytest.raises(SettingsError, match="no defect"):
        inject(None, "nonsense", 0.1, seed=1, settings=STANDARD)  # type: ignore[arg-type]


@pytest.mark.parametrize("rule", NAMES)
def test_a_defect_is_caught_by_its_rule_and_nothing_else_is(market, rule) -> None:
    injected = inject(market, rule, 0.01, seed=2, settings=STANDARD)
    verdicts = judge(injected.quotes, STANDARD, network="synthetic")
    caught = verdicts.rows_breaking(rule)
    hit = caught[injected.rows]
    if rule == "duplicate":
        hit = hit | caught[injected.kin]
    rest = np.ones(len(injected.quotes), bool)
    rest[injected.rows] = rest[injected.kin] = False
    assert len(injected.rows) >= 0.009 * len(market)
    assert hit.mean() > 0.99 or rule == "time_backwards"  # whose first snapshot has none before it
    assert verdicts.condemned[rest].mean() < 0.001


@pytest.mark.parametrize("rule", NAMES)
def test_only_the_chosen_rows_change_and_equal_seeds_choose_alike(market, rule) -> None:
    one, two = (inject(market, rule, 0.005, seed=7, settings=STANDARD) for _ in range(2))
    assert one.quotes.to_pydict() == two.quotes.to_pydict() or rule == "not_finite"  # NaN is not itself
    untouched = np.ones(len(one.quotes), bool)
    untouched[one.rows] = False
    before = np.ones(len(market), bool)
    if rule != "duplicate":
        before[one.rows] = False
    assert one.quotes.filter(untouched).equals(market.filter(before))
