"""What a call of a language model costs: genai-prices' dated table, prices of one's own before it, and no price for what neither knows."""

from __future__ import annotations

import datetime as dt
import tomllib
from dataclasses import dataclass
from functools import lru_cache
from importlib.metadata import version
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

from options_agent.errors import SettingsError

if TYPE_CHECKING:
    from pathlib import Path

    from options_agent.settings import Settings

#: Models of the embedded server run on this machine.
EMBEDDED: Final = ("desk-", "ft:desk-")
_FIELDS: Final = ("input", "output", "cached_input")
#: Share of the price of a batch, as the providers that have batches charge.
BATCH_SHARE: Final = 0.5


class UnknownPriceError(SettingsError):
    """Nobody knows what a model costs; it is not called, for a cost of 0 would be a lie."""


@dataclass(frozen=True, slots=True)
class Used:
    """Tokens of a call. `cached` are those of `tokens_in` that the provider had cached."""

    tokens_in: int
    tokens_out: int
    cached: int = 0
    batch: bool = False


@dataclass(frozen=True, slots=True)
class Price:
    """USD a million tokens, and where that is from."""

    input: float
    output: float
    cached_input: float
    source: str


def cost_usd(model: str, used: Used, settings: Settings) -> float:
    """What a call costs, USD.

    Raises:
        UnknownPriceError: no table knows the model.
        SettingsError: the file of one's own prices cannot be read.
    """
    own = price_of_own(model, settings)
    share = BATCH_SHARE if used.batch else 1.0
    if own is not None:
        fresh = used.tokens_in - used.cached
        return share * (fresh * own.input + used.cached * own.cached_input + used.tokens_out * own.output) / 1e6
    from genai_prices import Usage, calc_price

    usage = Usage(input_tokens=used.tokens_in, output_tokens=used.tokens_out, cache_read_tokens=used.cached)
    try:
        found = calc_price(usage, model_ref=model, provider_api_url=settings.language_model.base_url)
    except LookupError:
        try:
            found = calc_price(usage, model_ref=model)  # a gateway is no provider; the model is what is paid for
        except LookupError:
            raise UnknownPriceError(
                f"nobody knows the price of model {model!r}",
                place=f"prices of {table_date()}",
                remedy="name it in a file of one's own: OPTIONS_AGENT_LANGUAGE_MODEL__PRICES_FILE (docs/language-model.md)",
            ) from None
    return share * float(found.total_price)


def price_of_own(model: str, settings: Settings) -> Price | None:
    """The price that the desk itself knows: of its own models, or of the file of prices."""
    if settings.language_model.prices_file is not None:
        prices = _read(settings.language_model.prices_file.expanduser())
        if model in prices:
            return prices[model]
    if model.startswith(EMBEDDED) and runs_here(settings):
        return Price(0.0, 0.0, 0.0, "runs on this machine")
    return None


def runs_here(settings: Settings) -> bool:
    """Whether the model server is on this machine."""
    url = settings.language_model.base_url
    return (urlsplit(url).hostname if url else "localhost") in {"localhost", "127.0.0.1", "::1"}


@lru_cache
def table_date() -> str:
    """The kept table by the version that carries it, and the newest change of a price it knows: it is at least as new as that."""
    from genai_prices.data import providers

    today = dt.datetime.now(dt.UTC).date()
    prices = (p for provider in providers for m in provider.models if isinstance(m.prices, list) for p in m.prices)
    starts = (getattr(p.constraint, "start_date", None) for p in prices)
    newest = max((s for s in starts if s is not None and s <= today), default=None)
    return f"genai-prices {version('genai-prices')}" + (f", with changes to {newest}" if newest else "")


@lru_cache
def _read(path: Path) -> dict[str, Price]:
    try:
        content: dict[str, Any] = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise SettingsError(f"prices cannot be read: {error}", place=str(path), remedy="TOML, a table a model") from None
    found = {}
    for model, row in content.get("models", {}).items():
        wrong = [name for name in ("input", "output") if not isinstance(row.get(name), (int, float)) or row[name] < 0]
        if wrong or row.keys() - {*_FIELDS, "source"}:
            raise SettingsError(
                f"price of {model!r} is not usable",
                place=str(path),
                remedy="input and output in USD a million tokens, cached_input, source",
            )
        found[model] = Price(
            float(row["input"]), float(row["output"]), float(row.get("cached_input", row["input"])), str(row.get("source", path))
        )
    if not found:
        raise SettingsError("no prices are in it", place=str(path), remedy='[models."my-model"] with input and output')
    return found
