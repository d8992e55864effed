"""Talking to a running box from outside: its clock, its counters, its faults."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from typing import Any

from options_agent.errors import ServiceError, SettingsError


def ask(port: int, what: str, changes: dict[str, Any] | None = None) -> dict[str, Any]:
    """`clock`, `stats` or `faults` of the box on a port of this machine; with `changes`, set faults first.

    Raises:
        ServiceError: no box answers there.
        SettingsError: a switch does not exist or the value does not fit it.
    """
    url = f"http://127.0.0.1:{port}/box/{what}"
    body = json.dumps(changes).encode() if changes is not None else None
    request = urllib.request.Request(url, data=body, headers={"Content-Type": "application/json"})
    try:
        with urllib.request.urlopen(request, timeout=5) as answer:  # noqa: S310
            return dict(json.load(answer))
    except urllib.error.HTTPError as error:
        raise SettingsError(json.load(error).get("error", f"status {error.code}"), place=url) from None
    except (OSError, ValueError) as error:
        raise ServiceError(
            "no exchange in a box answers", place=url, remedy=f"start one: `options-agent exchange --port {port}` ({error})"
        ) from None
