"""Starting the server: in a thread of this process, or in the foreground of its own."""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING, Any, Final

from options_agent.errors import ServiceError

if TYPE_CHECKING:
    from pathlib import Path

    from options_agent.llm.server.app import Faults

HOST: Final = "127.0.0.1"
START_SECONDS: Final = 30.0


def start_model_server(folder: Path, port: int = 0, *, api_key: str | None = None, faults: Faults | None = None) -> str:
    """Start it in a daemon thread, which ends with this process; returns its base URL, with `/v1`.

    Args:
        folder: where files, jobs and trained models are kept. One server at a time trains below it.
        port: 0 = any free one.

    Raises:
        ServiceError: the port is taken, or it does not come up.
    """
    up = threading.Event()
    outcome: dict[str, Any] = {}

    def run() -> None:
        loop = asyncio.new_event_loop()
        asyncio.set_event_loop(loop)
        try:
            outcome["port"] = loop.run_until_complete(_listen(folder, port, api_key, faults))
        except OSError as error:
            outcome["error"] = str(error)
            return
        finally:
            up.set()
        loop.run_forever()

    threading.Thread(target=run, name="model-server", daemon=True).start()
    if not up.wait(START_SECONDS) or "port" not in outcome:
        raise ServiceError(
            f"the embedded model server does not start: {outcome.get('error', 'no word from it')}",
            place=f"{HOST}:{port}",
            remedy="another port",
        )
    return f"http://{HOST}:{outcome['port']}/v1"


async def _listen(folder: Path, port: int, api_key: str | None, faults: Faults | None) -> int:
    from aiohttp import web

    from options_agent.llm.server.app import build_app

    runner = web.AppRunner(build_app(folder, api_key=api_key, faults=faults), access_log=None)
    await runner.setup()
    site = web.TCPSite(runner, HOST, port)
    await site.start()
    return int(runner.addresses[0][1])


def serve(folder: Path, port: int, api_key: str | None = None) -> None:
    """Serve until interrupted."""
    from aiohttp import web

    from options_agent.llm.server.app import build_app

    web.run_app(build_app(folder, api_key=api_key), host=HOST, port=port, print=None, access_log=None)
