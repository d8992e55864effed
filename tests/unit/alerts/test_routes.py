"""Mail through a real SMTP server that wants TLS and a log-in, and webhooks through a real HTTP server that checks signatures."""

from __future__ import annotations

import datetime as dt
import hashlib
import hmac
import json
import socket
import ssl
import threading
from collections.abc import Iterator
from email import message_from_bytes
from email.message import Message
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import trustme
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import AuthResult, LoginPassword
from typer.testing import CliRunner

from options_agent.alerts import close_alert, open_alert, tick
from options_agent.cli.main import application
from options_agent.settings import Settings, load_settings

NOON = dt.datetime(2026, 1, 31, 12, tzinfo=dt.UTC)
MINUTE = dt.timedelta(minutes=1)


class Mailbox:
    """An SMTP server on loopback: STARTTLS first, then a log-in, then mail; `answer` takes the place of its yes."""

    def __init__(self, folder: Path) -> None:
        authority = trustme.CA()
        self.ca_file = folder / "ca.pem"
        authority.cert_pem.write_to_path(self.ca_file)
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        authority.issue_cert("127.0.0.1", "localhost").configure_cert(context)
        self.taken: list[Message] = []
        self.answer: str | None = None
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = free.getsockname()[1]
        self.controller = Controller(
            self,
            hostname="127.0.0.1",
            port=self.port,
            tls_context=context,
            require_starttls=True,
            auth_required=True,
            authenticator=self.let_in,
        )
        self.controller.start()

    def let_in(self, server: Any, session: Any, envelope: Any, mechanism: str, data: Any) -> AuthResult:
        return AuthResult(success=isinstance(data, LoginPassword) and (data.login, data.password) == (b"desk", b"secret-word"))

    async def handle_DATA(self, server: Any, session: Any, envelope: Any) -> str:  # noqa: N802 - the library's name
        if self.answer is None:
            self.taken.append(message_from_bytes(envelope.content))
        return self.answer or "250 taken"


@pytest.fixture
def mailbox(tmp_path: Path) -> Iterator[Mailbox]:
    box = Mailbox(tmp_path)
    yield box
    box.controller.stop()


class Hook:
    """A webhook receiver that keeps what it got; `status` is its answer."""

    def __init__(self) -> None:
        self.got: list[tuple[dict[str, str], bytes]] = []
        self.status = 204
        hook = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                hook.got.append((dict(self.headers.items()), body))
                self.send_response(hook.status)
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()


@pytest.fixture
def hook() -> Iterator[Hook]:
    made = Hook()
    yield made
    made.server.shutdown()
    made.server.server_close()


def desk(folder: Path, **routes: Any) -> Settings:
    return load_settings(home=folder / "home", alerts={"routes": routes}, _env_file=None)


def mail_route(mailbox: Mailbox, **changes: Any) -> dict[str, Any]:
    route = {
        "kind": "email",
        "host": "127.0.0.1",
        "port": mailbox.port,
        "user": "desk",
        "password": "secret-word",
        "ca_file": mailbox.ca_file,
    }
    return route | {"sender": "desk@example.org", "to": ["quant@example.org", "ops@example.org"], "timeout_seconds": 5.0} | changes


def test_mail_goes_over_tls_after_a_log_in_and_the_end_is_a_reply_to_the_opening(tmp_path: Path, mailbox: Mailbox) -> None:
    settings = desk(tmp_path, mail=mail_route(mailbox))
    open_alert("gap/BTC", "no BTC quotes", "The last is of 11:45.\nLook at <the> harvest.", "warning", settings, now=NOON)
    close_alert("gap/BTC", "BTC quotes are back", "Two lost.", settings, now=NOON + MINUTE)
    opening, end = mailbox.taken
    assert opening["Subject"] == "no BTC quotes"
    assert end["Subject"] == "[over] BTC quotes are back"
    assert end["In-Reply-To"] == opening["Message-ID"] != end["Message-ID"]
    assert opening["To"] == "quant@example.org, ops@example.org"
    plain, page = (part.get_payload(decode=True).decode() for part in opening.get_payload())
    assert "Look at <the> harvest." in plain
    assert "Look at &lt;the&gt; harvest." in page


@pytest.mark.parametrize("changes", [{"password": "wrong"}, {"ca_file": None}, {"security": "none"}, {"port": 9}])
def test_mail_that_cannot_be_sent_waits_and_says_why_without_the_secret(tmp_path: Path, mailbox: Mailbox, changes: dict[str, Any]) -> None:
    settings = desk(tmp_path, mail=mail_route(mailbox, **changes))
    done = open_alert("gap/BTC", "no BTC", "", "warning", settings, now=NOON)
    assert (done.sent, done.pending) == (1, 1), "the file has it, the mail waits"
    assert "alerts.routes.mail" in done.failures[0]
    assert "secret-word" not in done.failures[0]
    assert mailbox.taken == []
    mended = desk(tmp_path, mail=mail_route(mailbox))
    assert tick(mended, now=NOON + MINUTE).sent == 1
    assert mailbox.taken[0]["Subject"] == "no BTC"


def test_mail_put_off_is_tried_again_and_mail_refused_for_good_is_dropped(tmp_path: Path, mailbox: Mailbox) -> None:
    settings = desk(tmp_path, mail=mail_route(mailbox))
    mailbox.answer = "451 later"
    assert open_alert("gap/BTC", "no BTC", "", "warning", settings, now=NOON).pending == 1
    mailbox.answer = "550 never"
    refused = tick(settings, now=NOON + MINUTE)
    assert refused.pending == 0
    assert "550" in refused.failures[0]


def test_a_repeat_after_a_kill_has_the_same_message_id(tmp_path: Path, mailbox: Mailbox) -> None:
    from options_agent.alerts.rules import rule_book
    from options_agent.alerts.state import AlertState

    settings = desk(tmp_path, mail=mail_route(mailbox))
    mailbox.answer = "451 later"
    open_alert("gap/BTC", "no BTC", "", "warning", settings, now=NOON)
    mailbox.answer = None
    notice = AlertState(settings.state_dir).pending()[0]
    rule_book(settings).channels["mail"].send(notice)  # and killed before it is noted
    tick(settings, now=NOON + MINUTE)
    assert mailbox.taken[0]["Message-ID"] == mailbox.taken[1]["Message-ID"]


def test_a_webhook_is_signed_and_numbered(tmp_path: Path, hook: Hook) -> None:
    url = f"http://127.0.0.1:{hook.server.server_port}/x"
    settings = desk(tmp_path, hook={"kind": "webhook", "url": url, "secret": "between-us"})
    open_alert("gap/BTC", "no BTC", "body", "failure", settings, now=NOON)
    headers, body = hook.got[0]
    document = json.loads(body)
    assert document["key"] == "gap/BTC"
    assert (document["event"], document["severity"], document["network"]) == ("opened", "failure", "synthetic")
    assert headers["X-Options-Agent-Signature"] == "sha256=" + hmac.new(b"between-us", body, hashlib.sha256).hexdigest()
    assert headers["Idempotency-Key"] == f"synthetic-{document['id']}"


@pytest.mark.parametrize(("status", "again"), [(500, True), (503, True), (429, True), (400, False), (404, False)])
def test_a_webhook_that_is_busy_is_tried_again_and_one_that_refuses_is_not(tmp_path: Path, hook: Hook, status: int, again: bool) -> None:
    hook.status = status
    settings = desk(tmp_path, hook={"kind": "webhook", "url": f"http://127.0.0.1:{hook.server.server_port}/"})
    done = open_alert("gap/BTC", "no BTC", "", "warning", settings, now=NOON)
    assert (done.pending == 1) is again
    assert str(status) in done.failures[0]
    hook.status = 200
    assert tick(settings, now=NOON + MINUTE).sent == int(again)


def test_the_terminal_lists_checks_tests_and_silences(tmp_path: Path, hook: Hook, monkeypatch: pytest.MonkeyPatch) -> None:
    rules = tmp_path / "alerts.toml"
    rules.write_text(
        f'[routes.hook]\nkind = "webhook"\nurl = "http://127.0.0.1:{hook.server.server_port}/"\n\n'
        '[[rules]]\nwhat = "gap/*"\nroutes = ["hook"]\nescalate_minutes = 30\nescalate_to = ["file"]\n'
    )
    monkeypatch.setenv("OPTIONS_AGENT_ALERTS__RULES_FILE", str(rules))
    monkeypatch.setenv("COLUMNS", "160")
    terminal = CliRunner()
    settings = load_settings(_env_file=None)
    open_alert("gap/BTC/deribit", "no BTC", "", "warning", settings)
    assert "gap/BTC/deribit" in terminal.invoke(application(), ["alerts"]).output
    checked = terminal.invoke(application(), ["alerts", "check", "gap/ETH/x", "run/1"]).output
    assert "after 30 min to file" in checked
    assert terminal.invoke(application(), ["alerts", "test", "hook"]).exit_code == 0
    assert json.loads(hook.got[-1][1])["key"] == "test"
    assert terminal.invoke(application(), ["alerts", "silence", "gap/*", "--for", "2h"]).exit_code == 0
    assert "silenced until" in terminal.invoke(application(), ["alerts"]).output
    before = len(hook.got)
    open_alert("gap/ETH/deribit", "no ETH", "", "failure", settings)
    assert len(hook.got) == before
    close_alert("gap/BTC/deribit", "back", "", settings)
    assert "no BTC" in terminal.invoke(application(), ["alerts", "--history"]).output
