"""Where alerts go: a JSON-lines file and the log always, and any apprise URL of the settings.

A channel takes a notice or raises `ServiceError`; no message, name or error here shows a URL's secrets.
"""

from __future__ import annotations

import hashlib
import json
import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Protocol

from options_agent.errors import ServiceError

if TYPE_CHECKING:
    from pathlib import Path

    from pydantic import SecretStr

    from options_agent.alerts.state import Notice
    from options_agent.settings import AlertSettings, Settings

log = logging.getLogger("options_agent.alerts")

_LEVELS: Final = {"info": logging.INFO, "warning": logging.WARNING, "failure": logging.ERROR}


class RefusedError(ServiceError):
    """The channel will never take this notice: trying again is of no use."""


class Channel(Protocol):
    """Something that takes notices. `id` is stable between runs and shows no secret."""

    @property
    def id(self) -> str:
        """Its name in the outbox."""

    def send(self, notice: Notice) -> None:
        """Deliver one notice.

        Raises:
            RefusedError: it was refused for good.
            ServiceError: it was not taken; a later call may try again.
        """


@dataclass(frozen=True, slots=True)
class FileAndLog:
    """Appends a JSON line per notice, and says it in the log."""

    path: Path
    id: str = "file"

    def send(self, notice: Notice) -> None:
        """See `Channel.send`."""
        line = {
            "id": notice.id,
            "at": notice.at.isoformat(),
            "key": notice.key,
            "event": notice.event,
            "severity": notice.severity,
            "title": notice.title,
            "body": notice.body,
        }
        log.log(_LEVELS[notice.severity], "%s: %s", notice.title, notice.body)
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with self.path.open("a", encoding="utf-8") as stream:  # one short write of an appended line is whole on POSIX
                stream.write(json.dumps(line, sort_keys=True) + "\n")
        except OSError as error:
            raise ServiceError(
                f"the alert file cannot be written: {error.strerror}", place=str(self.path), remedy="check disk space and permissions"
            ) from error


@dataclass(frozen=True, slots=True)
class AppriseUrl:
    """One apprise URL: mail, chat, webhook, whatever apprise speaks."""

    url: SecretStr
    place: str
    name: str = ""

    @property
    def id(self) -> str:
        """The route's name, else a hash of the URL."""
        return self.name or hashlib.sha256(self.url.get_secret_value().encode()).hexdigest()[:16]

    def send(self, notice: Notice) -> None:
        """See `Channel.send`. The title carries the notice's number, so that a repeat can be told from news."""
        from apprise import Apprise, NotifyType

        place = self.place
        service = Apprise()
        if not service.add(self.url.get_secret_value()):
            raise ServiceError("not a URL apprise understands", place=place, remedy="see https://github.com/caronc/apprise for its forms")
        kind = NotifyType.SUCCESS if notice.event == "closed" else NotifyType(notice.severity)
        if not service.notify(title=f"{notice.title} [#{notice.id}]", body=notice.body or notice.title, notify_type=kind):
            raise ServiceError(
                f"{service[0].service_name} did not take the alert",
                place=place,
                remedy="check that the service is reachable and the URL's credentials are right; it is tried again with the next alert",
            )


def channels_of(settings: Settings, alerts: AlertSettings | None = None) -> list[Channel]:
    """The channels in force: the file first, then the URLs, then the named routes.

    Args:
        settings: of the desk.
        alerts: the settings of alerts where they come from elsewhere (a file of rules).
    """
    from options_agent.alerts.routes import Email, Webhook

    alerts = alerts or settings.alerts
    channels: list[Channel] = [FileAndLog(settings.home / "logs" / "alerts.jsonl")]
    channels += [AppriseUrl(url, f"alerts.urls[{position}]") for position, url in enumerate(alerts.urls)]
    for name, route in alerts.routes.items():
        match route.kind:
            case "email":
                channels.append(Email(name, route, settings.network))
            case "webhook":
                channels.append(Webhook(name, route, settings.network))
            case "apprise":
                channels.append(AppriseUrl(route.url, f"alerts.routes.{name}", name))
    return channels
