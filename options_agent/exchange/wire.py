"""The exchange's JSON: a listed instrument as ticker, book summary, instrument, order book and quote.

Volatility is in percent but in `markprice.options`; a missing side is null in price and 0.0 in size and volatility.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from options_agent.contracts import coin_of, expiry_kind, settlement_of, specification
from options_agent.exchange.feed import index_name, ms

if TYPE_CHECKING:
    from options_agent.exchange.feed import Listed

_FEES: Final = {"option": (0.0003, 0.0003), "future": (0.0, 0.0005)}
_FOREVER: Final = 32_503_708_800_000
_PERIODS: Final = {"daily": "day", "weekly": "week", "monthly": "month", "quarterly": "month"}


def ticker(listed: Listed, now_ms: int) -> dict[str, Any]:
    """`public/ticker`, and what the channels `ticker.*` carry."""
    row = listed.row
    volume, mark = row["volume_24h"] or 0.0, row["mark"] or 0.0
    stats = {"high": mark, "low": mark, "price_change": 0.0, "volume": volume, "volume_usd": round(volume * (row["index"] or 0.0), 2)}
    told: dict[str, Any] = {
        "timestamp": now_ms,
        "state": "open",
        "stats": stats,
        "index_price": row["index"],
        "instrument_name": listed.name,
        "last_price": row["mark"],
        "settlement_price": mark,
        "min_price": row["least"],
        "max_price": row["most"],
        "open_interest": row["open_interest"] or 0.0,
        "mark_price": mark,
        "best_ask_price": row["ask"],
        "best_bid_price": row["bid"],
        "best_ask_amount": (row["ask_size"] or 0.0) if row["ask"] is not None else 0.0,
        "best_bid_amount": (row["bid_size"] or 0.0) if row["bid"] is not None else 0.0,
        "estimated_delivery_price": row["index"],
    }
    if listed.kind == "option":
        told |= {
            "underlying_price": row["forward"] or row["index"],
            "underlying_index": listed.forward_name,
            "interest_rate": 0.0,
            "mark_iv": row["mark_pc"],
            "bid_iv": row["bid_pc"],
            "ask_iv": row["ask_pc"],
            "greeks": {
                "delta": row["delta"] or 0.0,
                "gamma": row["gamma"] or 0.0,
                "vega": row["vega"] or 0.0,
                "theta": row["theta"] or 0.0,
                "rho": row["rho"],
            },
        }
    elif listed.expiry is None:
        told |= {"current_funding": row["funding"], "funding_8h": row["funding"], "interest_value": 0.0}
        stats["volume_notional"] = stats["volume_usd"]
    return told


def summary(listed: Listed, now_ms: int) -> dict[str, Any]:
    """`public/get_book_summary_by_*`: no greeks, no bid or ask volatility, no sizes."""
    row, coin = listed.row, coin_of(listed.underlying)
    bid, ask = row["bid"], row["ask"]
    volume = row["volume_24h"] or 0.0
    told: dict[str, Any] = {
        "instrument_name": listed.name,
        "high": row["mark"],
        "low": row["mark"],
        "last": row["mark"],
        "base_currency": coin,
        "quote_currency": _quote_currency(listed),
        "volume": volume,
        "volume_usd": round(volume * (row["mark"] or 0.0) * _usd(listed), 2),
        "bid_price": bid,
        "ask_price": ask,
        "mid_price": (bid + ask) / 2 if bid is not None and ask is not None else None,
        "mark_price": row["mark"] or 0.0,
        "open_interest": row["open_interest"] or 0.0,
        "creation_timestamp": now_ms,
        "estimated_delivery_price": row["index"],
        "price_change": None,
    }
    if listed.kind == "option":
        told |= {
            "mark_iv": row["mark_pc"],
            "interest_rate": 0.0,
            "underlying_index": listed.forward_name,
            "underlying_price": row["forward"] or row["index"],
        }
    elif listed.expiry is None:
        told |= {"current_funding": row["funding"], "funding_8h": row["funding"]}
    return told


def instrument(listed: Listed) -> dict[str, Any]:
    """`public/get_instrument`."""
    linear = settlement_of(listed.underlying) == "usdc"
    coin = coin_of(listed.underlying)
    maker, taker = _FEES[listed.kind]
    spec = specification(listed.underlying)
    told: dict[str, Any] = {
        "kind": listed.kind,
        "instrument_name": listed.name,
        "instrument_id": listed.number,
        "instrument_type": "linear" if linear else "reversed",
        "price_index": index_name(listed.underlying),
        "underlying_type": "crypto",
        "base_currency": coin,
        "counter_currency": "USDC" if linear else "USD",
        "quote_currency": _quote_currency(listed),
        "settlement_currency": "USDC" if linear else coin,
        "settlement_period": _PERIODS[expiry_kind(listed.expiry)] if listed.expiry else "perpetual",
        "is_active": True,
        "state": "open",
        "creation_timestamp": listed.created_ms,
        "expiration_timestamp": ms(listed.expiry) if listed.expiry else _FOREVER,
        "tick_size": listed.tick,
        "tick_size_steps": [],
        "contract_size": spec.contract_size if spec else 1.0,
        "min_trade_amount": spec.min_trade_amount if spec else 1.0,
        "maker_commission": maker,
        "taker_commission": taker,
        "block_trade_commission": maker,
        "block_trade_min_trade_amount": 25,
        "block_trade_tick_size": listed.tick,
        "max_leverage": 1 if listed.kind == "option" else 50,
        "max_liquidation_commission": 0.0075,
    }
    if listed.kind == "option":
        told["option_type"] = "call" if listed.row["right"] == "C" else "put"
        told["strike"] = listed.row["strike"]
        if spec and spec.tick_steps:
            told["tick_size_steps"] = [{"above_price": above, "tick_size": step} for above, step in spec.tick_steps]
    else:
        told["future_type"] = "linear" if linear else "reversed"
        told["contract_size"], told["min_trade_amount"] = 10.0, 10.0
        if listed.expiry is None:
            told["max_non_default_leverage"] = 5
    return told


def order_book(listed: Listed, now_ms: int, depth: int) -> dict[str, Any]:
    """`public/get_order_book`: the ticker's members with levels and the change id."""
    book = listed.book
    book.refresh(listed.row, listed.tick, start=first_change(listed))
    return ticker(listed, now_ms) | {
        "bids": [[price, size] for price, size in sorted(book.bids.items(), reverse=True)[:depth]],
        "asks": [[price, size] for price, size in sorted(book.asks.items())[:depth]],
        "change_id": book.change_id,
    }


def quote(listed: Listed, now_ms: int) -> dict[str, Any]:
    """What the channels `quote.*` carry."""
    row = listed.row
    return {
        "timestamp": now_ms,
        "instrument_name": listed.name,
        "best_ask_price": row["ask"],
        "best_bid_price": row["bid"],
        "best_ask_amount": (row["ask_size"] or 0.0) if row["ask"] is not None else 0.0,
        "best_bid_amount": (row["bid_size"] or 0.0) if row["bid"] is not None else 0.0,
    }


def first_change(listed: Listed) -> int:
    """The change id a book starts from."""
    return 10_000_000 + listed.number * 10_000


def _usd(listed: Listed) -> float:
    return float(listed.row["index"] or 0.0) if settlement_of(listed.underlying) == "coin" else 1.0


def _quote_currency(listed: Listed) -> str:
    if settlement_of(listed.underlying) == "usdc":
        return "USDC"
    return coin_of(listed.underlying) if listed.kind == "option" else "USD"
