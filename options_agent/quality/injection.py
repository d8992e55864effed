"""Known defects put into quotes that are good, one kind for each rule, so that what the rules catch can be counted.

A kind says which rows it can befall and what it does to them; sizes are those of faults seen in feeds, and are given below.
Whatever the draw, the rows come back in the order they had (a duplicate right after its original).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from options_agent.contracts import tick_at
from options_agent.errors import SettingsError
from options_agent.quality.chain import MICROSECONDS, Bools, Chain, Floats, Ints, chain_of
from options_agent.quality.row_checks import mark_tolerance
from options_agent.quotes import QUOTE_SCHEMA

if TYPE_CHECKING:
    from collections.abc import Callable

    from options_agent.settings import QualitySettings

_HOUR: Final = 3_600 * MICROSECONDS
#: Rows of an expiry an IV can stick out of: it needs a smile.
_LEAST_ROWS: Final = 20

Change = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Kind:
    """One defect: the rule it breaks, what is done, the rows it can befall, and new values by column for chosen row numbers."""

    rule: str
    what: str
    eligible: Callable[[Chain], Bools]
    change: Callable[[Chain, Ints, np.random.Generator, QualitySettings], Change]


@dataclass(frozen=True, slots=True)
class Injected:
    """Spoilt quotes; `rows` are the spoilt ones' numbers. `kin` are rows a defect drags along: a duplicate's original."""

    quotes: pa.Table
    rows: Ints
    kin: Ints


def inject(quotes: pa.Table, rule: str, rate: float, *, seed: int, settings: QualitySettings) -> Injected:
    """Spoil a share of the rows that the defect can befall.

    Args:
        quotes: `QUOTE_SCHEMA`, believed good.
        rule: a kind of `KINDS`.
        rate: share of all rows to spoil (of the eligible ones, where those are fewer).
        seed: equal seeds spoil the same rows in the same way.
        settings: thresholds; sizes of defects start well beyond them where the rule is a threshold on time or price.

    Raises:
        SettingsError: there is no such kind.
    """
    if rule not in KINDS:
        raise SettingsError(f"no defect is called {rule!r}", remedy=f"the kinds are {', '.join(KINDS)}")
    chain, random, kind = chain_of(quotes.combine_chunks()), np.random.default_rng([seed, list(KINDS).index(rule)]), KINDS[rule]
    eligible = np.flatnonzero(kind.eligible(chain))
    count = min(max(round(rate * len(quotes)), 1), len(eligible))
    at = np.sort(random.choice(eligible, count, replace=False))
    changed = _changed(quotes, at, kind.change(chain, at, random, settings))
    if rule != "duplicate":
        return Injected(changed, at, np.empty(0, np.int64))
    order = np.sort(np.concatenate([np.arange(len(quotes)), at]), kind="stable")
    copies = at + np.arange(1, len(at) + 1)
    source = order.copy()
    source[copies] = len(quotes) + np.arange(len(at))
    both = pa.concat_tables([quotes, changed.take(pa.array(at))]).combine_chunks()
    return Injected(both.take(pa.array(source)), copies, copies - 1)


def _changed(quotes: pa.Table, at: Ints, change: Change) -> pa.Table:
    columns = []
    for field, column in zip(QUOTE_SCHEMA, quotes.columns, strict=True):
        if field.name in change:
            values = change[field.name]
            new = pa.array(values, from_pandas=False) if not isinstance(values, pa.Array) else values
            mask = np.zeros(len(quotes), bool)
            mask[at] = True
            column = pc.replace_with_mask(column.combine_chunks(), pa.array(mask), new.cast(field.type))
        columns.append(column)
    return pa.Table.from_arrays(columns, schema=QUOTE_SCHEMA)


def _has(*names: str) -> Callable[[Chain], Bools]:
    return lambda chain: np.logical_and.reduce([~np.isnan(chain.number(name)) for name in names])


def _any(chain: Chain) -> Bools:
    return np.ones(len(chain), bool)


def _two_sided_and_dear(chain: Chain) -> Bools:
    return _has("bid", "ask", "mark")(chain) & (chain.number("mark") >= 0.005 / _coin(chain))


def _in_a_smile(chain: Chain) -> Bools:
    """Rows of expiries with a smile, but for their outermost strikes on either side."""
    order = chain.by_expiry
    key = np.stack([c[order].astype(np.int64) for c in (chain.harvester, chain.snapshot, chain.family, chain.expiry)])
    starts = np.flatnonzero(np.append(True, (key[:, 1:] != key[:, :-1]).any(axis=0)))
    lengths = np.diff(np.append(starts, len(order)))
    group = np.repeat(np.arange(len(starts)), lengths)
    place = np.arange(len(order)) - starts[group]
    rows = np.zeros(len(chain), bool)
    rows[order] = (lengths[group] >= _LEAST_ROWS) & (place >= 4) & (place < lengths[group] - 4)
    return rows & ~np.isnan(chain.number("mark_iv"))


def _coin(chain: Chain) -> Floats:
    return chain.coin


def _nulls(at: Ints) -> pa.Array:
    return pa.nulls(len(at), pa.float64())


def _text(chain: Chain, name: str, at: Ints) -> list[Any]:
    texts: list[Any] = chain.table.column(name).take(pa.array(at)).to_pylist()
    return texts


def _missing_field(chain: Chain, at: Ints, random: np.random.Generator, settings: QualitySettings) -> Change:
    return {name: _nulls(at) for name in ("bid", "mark", "mark_iv", "delta")}


def _not_finite(chain: Chain, at: Ints, random: np.random.Generator, settings: QualitySettings) -> Change:
    return {"mark": random.choice([np.nan, np.inf, -np.inf], len(at))}


def _not_positive(chain: Chain, at: Ints, random: np.random.Generator, settings: QualitySettings) -> Change:
    return {"bid": random.choice([0.0, -1.0], len(at)) * np.abs(chain.number("bid")[at])}


def _unknown_instrument(chain: Chain, at: Ints, random: np.random.Generator, settings: QualitySettings) -> Change:
    return {"instrument": [f"{name[:-1]}{'P' if name[-1] == 'C' else 'C'}" for name in _text(chain, "instrument", at)]}


def _foreign_network(chain: Chain, at: Ints, random: np.random.Generator, settings: QualitySettings) -> Change:
    return {"network": ["testnet" if name != "testnet" else "mainnet" for name in _text(chain, "network", at)]}


def _time(values: Ints) -> pa.Array:
    return pa.array(values).cast(pa.timestamp("us", tz="UTC"))


def _expired(chain: Chain, at: Ints, random: np.random.Generator, settings: QualitySettings) -> Change:
    return {"ts": _time(chain.expiry[at] + random.integers(0, _HOUR, len(at)))}


def _stale(chain: Chain, at: Ints, random: np.random.Generator, settings: QualitySettings) -> Change:
    age = int(settings.stale_seconds + 60) * MICROSECONDS + random.integers(0, 24 * _HOUR, len(at))
    return {"ts": _time(chain.snapshot[at] - age)}


def _late(chain: Chain, at: Ints, random: np.random.Generator, settings: QualitySettings) -> Change:
    delay = int(settings.late_seconds + 60) * MICROSECONDS + random.integers(0, 24 * _HOUR, len(at))
    return {"ts": _time(chain.snapshot[at] + delay)}


def _crossed(chain: Chain, at: Ints, random: np.random.Generator, settings: QualitySettings) -> Change:
    return {"bid": chain.number("ask")[at], "ask": chain.number("bid")[at]}


def _locked(chain: Chain, at: Ints, random: np.random.Generator, settings: QualitySettings) -> Change:
    return {"bid": chain.number("ask")[at]}


def _off_tick(chain: Chain, at: Ints, random: np.random.Generator, settings: QualitySettings) -> Change:
    ask = chain.number("ask")[at]
    families = [chain.families[code] or "" for code in chain.family[at]]
    tick = np.array([tick_at(family, price) or np.nan for family, price in zip(families, ask, strict=True)])
    return {"ask": ask + tick * random.uniform(0.1, 0.9, len(at))}


def _absurd_iv(chain: Chain, at: Ints, random: np.random.Generator, settings: QualitySettings) -> Change:
    return {"mark_iv": chain.number("mark_iv")[at] * random.choice([0.0, 100.0], len(at))}


def _mark_band(chain: Chain, at: Ints, random: np.random.Generator, settings: QualitySettings) -> Change:
    return {"mark": chain.number("mark")[at] * random.choice([0.1, 10.0], len(at))}


def _mark_model(chain: Chain, at: Ints, random: np.random.Generator, settings: QualitySettings) -> Change:
    mark, coin = chain.number("mark")[at], chain.coin[at]
    push = random.uniform(2.0, 6.0, len(at)) * mark_tolerance(chain, settings, at) / coin
    return {"mark": np.where((mark > push) & (random.random(len(at)) < 0.5), mark - push, mark + push), "ask": _nulls(at)}


def _duplicate(chain: Chain, at: Ints, random: np.random.Generator, settings: QualitySettings) -> Change:
    return {"open_interest": np.nan_to_num(chain.number("open_interest")[at]) + 1.0}


def _time_backwards(chain: Chain, at: Ints, random: np.random.Generator, settings: QualitySettings) -> Change:
    return {"ts": _time(_before(chain)[at])}


def _before(chain: Chain) -> Ints:
    """The ts of each row's instrument in the snapshot before its own; its own where there is none."""
    order = np.lexsort((chain.snapshot, chain.series))
    earlier = chain.ts[order].copy()
    same = chain.series[order][1:] == chain.series[order][:-1]
    earlier[1:][same] = chain.ts[order][:-1][same]
    out = np.empty_like(earlier)
    out[order] = earlier
    return out


def _was_there_before(chain: Chain) -> Bools:
    return _before(chain) < chain.ts


def _smile_outlier(chain: Chain, at: Ints, random: np.random.Generator, settings: QualitySettings) -> Change:
    vol = chain.number("mark_iv")[at]
    push = np.maximum(2.0 * settings.smile_points, 0.5 * vol) * random.uniform(1.0, 2.0, len(at))
    return {"mark_iv": np.minimum(vol + push, 0.99 * settings.iv_max), "mark": _nulls(at)}


def _static_arbitrage(chain: Chain, at: Ints, random: np.random.Generator, settings: QualitySettings) -> Change:
    """Both sides move by 0.1 to 0.2 coin, on the grid; the mark goes, or it would tell."""
    up = np.round(random.uniform(0.1, 0.2, len(at)) / 0.0005) * 0.0005
    bid = np.round((np.round(chain.number("ask")[at] / 0.0005) * 0.0005 + up) / 0.0005) * 0.0005
    return {"bid": bid, "ask": bid + 0.001, "mark": _nulls(at)}


KINDS: Final[dict[str, Kind]] = {
    kind.rule: kind
    for kind in (
        Kind("missing_field", "bid, mark, mark IV and delta gone", _any, _missing_field),
        Kind("not_finite", "NaN or an infinity for the mark", _any, _not_finite),
        Kind("not_positive", "a bid of 0 for none, or with its sign turned", _has("bid"), _not_positive),
        Kind("unknown_instrument", "the name of the other right", _any, _unknown_instrument),
        Kind("foreign_network", "a row of the other network", _any, _foreign_network),
        Kind("expired", "known up to an hour after expiry", _any, _expired),
        Kind("stale", "known 1 min to 24 h before the oldest allowed", _any, _stale),
        Kind("late", "known 1 min to 24 h after the latest allowed", _any, _late),
        Kind("crossed", "bid and ask swapped", lambda c: _has("bid", "ask")(c) & (c.number("ask") > c.number("bid")), _crossed),
        Kind("locked", "the bid raised to the ask", _has("bid", "ask"), _locked),
        Kind("off_tick", "the ask 0.1 to 0.9 ticks up", lambda c: _has("ask")(c) & ~c.is_linear, _off_tick),
        Kind("absurd_iv", "mark IV in percent, or 0", _has("mark_iv"), _absurd_iv),
        Kind("mark_band", "the mark's decimal point moved by one, quoted marks of 0.005 coin and more", _two_sided_and_dear, _mark_band),
        Kind("mark_model", "the mark 2 to 6 times its tolerance off, no ask", _has("mark", "mark_iv", "forward"), _mark_model),
        Kind("duplicate", "the row twice, with another open interest", _any, _duplicate),
        Kind("time_backwards", "the time of the snapshot before: a frozen feed", _was_there_before, _time_backwards),
        Kind(
            "smile_outlier", "mark IV 0.5 to 1 (or half to all of itself) up, inner strikes of 20 rows or more", _in_a_smile, _smile_outlier
        ),
        Kind("static_arbitrage", "bid and ask 0.1 to 0.2 coin up, no mark", _has("bid", "ask", "mark"), _static_arbitrage),
    )
}
