"""What was held back, told as one: a message a channel, a line an alert, and what opened and closed meanwhile said as that."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from options_agent.alerts.state import Notice


def digest(notices: Sequence[Notice], network: str, rank: Mapping[str, int]) -> Notice:
    """One notice for several of one channel, in the order they were queued. Its number is the first's; it is the worst's severity.

    Args:
        notices: at least one.
        network: named in the title.
        rank: of severities.
    """
    if len(notices) == 1:
        return notices[0]
    by_key: dict[str, list[Notice]] = {}
    for notice in notices:
        by_key.setdefault(notice.key, []).append(notice)
    lines = [_told(own) for own in by_key.values()]
    last = [own[-1] for own in by_key.values()]
    over = all(notice.event == "closed" for notice in last)
    title = lines[0][0] if len(lines) == 1 else f"{network}: {len(lines)} alerts"
    return dataclasses.replace(
        notices[0],
        event="closed" if over else "opened",
        severity="info" if over else max((notice.severity for notice in notices), key=rank.__getitem__),
        title=title,
        body="\n\n".join(f"{head}\n{text}" if len(lines) > 1 else text for head, text in lines),
        key=notices[0].key if len(lines) == 1 else "digest",
        at=notices[-1].at,
    )


def _told(own: Sequence[Notice]) -> tuple[str, str]:
    """Title and text of what happened to one alert."""
    openings = [notice for notice in own if notice.event != "closed"]
    if len(own) == 1:
        return own[0].title, own[0].body
    head = (openings or own)[-1].title
    began, ended = own[0], own[-1]
    if ended.event == "closed":
        times = "" if len(openings) == 1 else f" ({len(openings)} times)"
        return f"{head}: over{times}", f"From {began.at:%Y-%m-%d %H:%M} to {ended.at:%Y-%m-%d %H:%M} UTC. {ended.body}"
    return f"{head} (again; {len(openings)} times)", f"First at {began.at:%Y-%m-%d %H:%M} UTC. {ended.body}"
