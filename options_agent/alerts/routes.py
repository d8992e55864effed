"""Named routes: mail by SMTP and JSON by webhook. A repeat of a notice can be told from news by its number."""

from __future__ import annotations

import hashlib
import hmac
import html
import json
import smtplib
import ssl
import urllib.error
import urllib.request
from dataclasses import dataclass
from email.message import EmailMessage
from email.utils import format_datetime
from typing import TYPE_CHECKING, Final

from options_agent.alerts.channels import RefusedError
from options_agent.errors import ServiceError

if TYPE_CHECKING:
    from options_agent.alerts.state import Notice
    from options_agent.settings import EmailRoute, WebhookRoute

_COLOURS: Final = {"info": "#2e7d32", "warning": "#ef6c00", "failure": "#c62828"}
_AGAIN: Final = (408, 425, 429)


@dataclass(frozen=True, slots=True)
class Email:
    """A mail per notice, plain and HTML. What follows an opening is a reply to it, so that mail programs show one thread."""

    id: str
    route: EmailRoute
    network: str

    def send(self, notice: Notice) -> None:
        """See `Channel.send`."""
        place = f"alerts.routes.{self.id} ({self.route.host}:{self.route.port})"
        try:
            with self._connected() as server:
                server.send_message(self._message(notice))
        except (smtplib.SMTPRecipientsRefused, smtplib.SMTPSenderRefused, smtplib.SMTPDataError) as error:
            if all(400 <= code < 500 for code in _codes(error)):
                raise ServiceError(f"the mail was put off: {error}", place=place, remedy="it is tried again") from None
            raise RefusedError(f"the mail was refused: {error}", place=place, remedy="check sender and recipients") from None
        except (smtplib.SMTPException, OSError) as error:
            raise ServiceError(
                f"the mail was not taken: {type(error).__name__} {error}".strip(),
                place=place,
                remedy="check host, port, security, user and password; it is tried again",
            ) from None

    def _connected(self) -> smtplib.SMTP:
        route = self.route
        context = ssl.create_default_context(cafile=str(route.ca_file) if route.ca_file else None)
        if route.security == "tls":
            server: smtplib.SMTP = smtplib.SMTP_SSL(route.host, route.port, timeout=route.timeout_seconds, context=context)
        else:
            server = smtplib.SMTP(route.host, route.port, timeout=route.timeout_seconds)
        try:
            if route.security == "starttls":
                server.starttls(context=context)
            if route.user is not None:
                server.login(route.user, route.password.get_secret_value() if route.password else "")
        except BaseException:
            server.close()
            raise
        return server

    def _message(self, notice: Notice) -> EmailMessage:
        message = EmailMessage()
        message["Subject"] = f"{'[over] ' if notice.event == 'closed' else ''}{notice.title}"
        message["From"], message["To"] = self.route.sender, ", ".join(self.route.to)
        message["Date"] = format_datetime(notice.at)
        opening = f"<{notice.thread or notice.id}@{self.network}.options-agent>"
        message["Message-ID"] = (
            opening if notice.event == "opened" and notice.thread else f"<{notice.thread}.{notice.id}@{self.network}.options-agent>"
        )
        if notice.event == "closed" and notice.thread:
            message["In-Reply-To"] = message["References"] = opening
        message["X-Options-Agent-Notice"] = str(notice.id)
        message.set_content(f"{notice.body or notice.title}\n\n{notice.key}, notice {notice.id}, {notice.at:%Y-%m-%d %H:%M} UTC\n")
        lines = html.escape(notice.body or notice.title).replace("\n", "<br>")
        message.add_alternative(
            f'<p style="border-left:4px solid {_COLOURS[notice.severity]};padding-left:8px"><b>{html.escape(notice.title)}</b></p>'
            f'<p>{lines}</p><p style="color:#777">{html.escape(notice.key)}, notice {notice.id}, {notice.at:%Y-%m-%d %H:%M} UTC</p>',
            subtype="html",
        )
        return message


@dataclass(frozen=True, slots=True)
class Webhook:
    """A JSON document by POST, signed where there is a secret. 5xx, 408, 425 and 429 are tried again, other refusals are final."""

    id: str
    route: WebhookRoute
    network: str

    def send(self, notice: Notice) -> None:
        """See `Channel.send`."""
        place = f"alerts.routes.{self.id}"
        document = {
            "id": notice.id,
            "network": self.network,
            "key": notice.key,
            "event": notice.event,
            "severity": notice.severity,
            "title": notice.title,
            "body": notice.body,
            "at": notice.at.isoformat(),
        }
        body = json.dumps(document, sort_keys=True).encode()
        headers = {"Content-Type": "application/json", "Idempotency-Key": f"{self.network}-{notice.id}", "User-Agent": "options-agent"}
        if self.route.secret is not None:
            digest = hmac.new(self.route.secret.get_secret_value().encode(), body, hashlib.sha256).hexdigest()
            headers["X-Options-Agent-Signature"] = f"sha256={digest}"
        url = self.route.url.get_secret_value()
        if not url.startswith(("http://", "https://")):
            raise RefusedError("not an http URL", place=place, remedy="give a URL that begins with https://")
        request = urllib.request.Request(url, data=body, headers=headers, method="POST")  # noqa: S310 - checked above
        try:
            with urllib.request.urlopen(request, timeout=self.route.timeout_seconds):  # noqa: S310
                return
        except urllib.error.HTTPError as error:
            if error.code in _AGAIN or error.code >= 500:
                raise ServiceError(f"the webhook answered {error.code}", place=place, remedy="it is tried again") from None
            raise RefusedError(f"the webhook answered {error.code}", place=place, remedy="check its URL and secret") from None
        except (OSError, ValueError) as error:
            raise ServiceError(
                f"the webhook did not answer: {type(error).__name__}", place=place, remedy="check that it is reachable; it is tried again"
            ) from None


def _codes(error: smtplib.SMTPException) -> list[int]:
    if isinstance(error, smtplib.SMTPRecipientsRefused):
        return [code for code, _ in error.recipients.values()]
    return [int(getattr(error, "smtp_code", 500))]
