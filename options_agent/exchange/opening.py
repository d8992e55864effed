"""Opening the box: the source the settings name, a clock that starts where its data are, and a server on loopback."""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
import signal
from typing import TYPE_CHECKING

from options_agent.errors import ServiceError, SettingsError
from options_agent.exchange.server import Box, application, make_box
from options_agent.market.clock import clock_at

if TYPE_CHECKING:
    from collections.abc import Callable

    from options_agent.market.sources import Source
    from options_agent.settings import Settings


def box_of(settings: Settings) -> Box:
    """A box as the settings say: its feed, its clock, its key.

    Raises:
        SettingsError: the feed lacks a setting it needs.
        DataError: the feed has none of the settings' underlyings.
    """
    source = feed_source(settings)
    exchange = settings.exchange
    clock = clock_at(_opening_time(settings, source), exchange.speed)
    keys = {exchange.client_id: exchange.client_secret.get_secret_value()}
    return make_box(source, settings.underlyings, clock, past=feed_source(settings), keys=keys, limits=exchange.limits)


def feed_source(settings: Settings) -> Source:
    """The source that feeds the box. The synthetic one has neither spoilt rows nor outages of its own: faults are the box's."""
    from options_agent.market.sources import LakeSource, open_source
    from options_agent.market.synthetic.source import SyntheticSource

    feed = settings.exchange.feed
    if feed == "synthetic":
        step = dt.timedelta(seconds=settings.exchange.every_seconds)
        whole = settings.synthetic.model_copy(update={"defect_rate": 0.0, "outage_rate": 0.0})
        return SyntheticSource(whole, interval=step, live_interval=step, region=settings.region)
    if feed == "lake":
        from options_agent.lake.store import open_lake

        return LakeSource(open_lake(settings))
    return open_source(settings.model_copy(update={"source": "recorded", "network": "mainnet"}))


async def serve_box(box: Box, port: int, ready: Callable[[int], None], stop: asyncio.Event | None = None) -> None:
    """Serve on 127.0.0.1 until `stop`, or SIGINT or SIGTERM; `ready` is told the port.

    Raises:
        ServiceError: the port is taken.
    """
    from aiohttp import web

    stop = stop or asyncio.Event()
    loop = asyncio.get_running_loop()
    with contextlib.suppress(ValueError, RuntimeError, NotImplementedError):  # not in the main thread: the caller stops it
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, stop.set)
    runner = web.AppRunner(application(box), access_log=None, shutdown_timeout=1.0)
    await runner.setup()
    try:
        site = web.TCPSite(runner, "127.0.0.1", port)
        try:
            await site.start()
        except OSError as error:
            raise ServiceError(
                f"the exchange cannot listen on port {port}: {error.strerror}",
                place=f"127.0.0.1:{port}",
                remedy="end what is there, or give another --port",
            ) from None
        ready(runner.addresses[0][1])
        await stop.wait()
        for session in list(box.pump.sessions):
            session.transport.close()
    finally:
        await runner.cleanup()


def _opening_time(settings: Settings, source: Source) -> dt.datetime:
    start = settings.exchange.start
    if start is not None:
        return start if start.tzinfo else start.replace(tzinfo=dt.UTC)
    if source.live:
        return dt.datetime.now(dt.UTC)
    spans = [span for underlying in settings.underlyings if underlying in source.underlyings() and (span := source.span(underlying))]
    if not spans:
        raise SettingsError(
            "the feed of the box holds no chain of the underlyings", remedy="set OPTIONS_AGENT_UNDERLYINGS, or another feed"
        )
    return max(first for first, _ in spans) + dt.timedelta(minutes=5)
