"""Which clock a harvest goes by: the wall's, but for a box whose time runs otherwise; that one tells."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from options_agent.errors import ServiceError
from options_agent.market.clock import WALL, Clock

if TYPE_CHECKING:
    from options_agent.settings import Settings

#: Wall seconds in which a fast box tells every contract at least twice, and a snapshot settles.
_FRESH: Final = 3.0
_SETTLE: Final = 0.2
_SWEEP: Final = 3.0


async def clock_of(settings: Settings) -> Clock:
    """The clock of the settings' network.

    Raises:
        ServiceError: the network is synthetic and no box answers at its URL.
    """
    if settings.network != "synthetic":
        return WALL
    import aiohttp

    url = f"{settings.exchange_url}/box/clock"
    try:
        async with (
            aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=settings.deribit.timeout_seconds)) as session,
            session.get(url) as answer,
        ):
            told = await answer.json(content_type=None)
        return Clock(float(told["speed"]), int(told["origin"]), float(told["began"]))
    except (aiohttp.ClientError, TimeoutError, OSError, ValueError, KeyError, TypeError) as error:
        raise ServiceError(
            f"no exchange in a box answers ({type(error).__name__})",
            place=url,
            remedy="start one: `options-agent exchange`, or name another --network",
        ) from None


def in_market_time(settings: Settings, clock: Clock) -> Settings:
    """Settings whose market seconds leave a fast box's wall enough time: to settle, to tell, to be asked."""
    limits = settings.deribit
    half = settings.live_interval_minutes * 30.0
    changed = limits.model_copy(
        update={
            "settle_seconds": min(max(limits.settle_seconds, _SETTLE * clock.speed), half) if clock.speed > 1 else limits.settle_seconds,
            "fresh_seconds": max(limits.fresh_seconds, _FRESH * clock.speed) if clock.speed > 1 else limits.fresh_seconds,
            "sweep_seconds": min(max(limits.sweep_seconds, _SWEEP * clock.speed), half) if clock.speed > 1 else limits.sweep_seconds,
            "prices_seconds": max(limits.prices_seconds, clock.speed) if clock.speed > 1 else limits.prices_seconds,
        }
    )
    return settings.model_copy(update={"deribit": changed})
