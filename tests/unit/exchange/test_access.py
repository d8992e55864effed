"""Tokens: what they let in, how long, and what a forked or renewed one keeps; the seam where private methods join."""

from __future__ import annotations

import base64
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from options_agent.exchange import private
from options_agent.exchange.access import LASTS, Access, Grant
from options_agent.exchange.credits import Account
from options_agent.exchange.errors import RpcError

SECRET = {"grant_type": "client_credentials", "client_id": "box", "client_secret": "s"}


def code(call: Any) -> int:
    with pytest.raises(RpcError) as raised:
        call()
    return raised.value.code


@given(st.floats(0, 2 * LASTS))
def test_a_token_serves_until_its_end_and_its_refresh_token_gives_another_of_the_same_scope(later: float) -> None:
    access = Access({"box": "s"})
    grant, reply = access.log_in({**SECRET, "scope": "trade:read session:one"}, 1_000.0)
    assert reply["expires_in"] == LASTS
    if later <= LASTS:
        assert access.holder(reply["access_token"], 1_000.0 + later) == grant
    else:
        assert code(lambda: access.holder(reply["access_token"], 1_000.0 + later)) == 13009
    renewed, _ = access.log_in({"grant_type": "refresh_token", "refresh_token": reply["refresh_token"]}, 1_000.0 + later)
    assert (renewed.client, renewed.scope) == ("box", "trade:read session:one")


@pytest.mark.parametrize(
    ("pair", "outcome"),
    [(b"box:s", None), (b"box:t", 13004), (b"none:s", 13004), (b"box", 13004), (b"box:\xff", 13004), ("box:é".encode(), 13004)],
)
def test_a_header_of_id_and_secret_lets_in_for_a_request(pair: bytes, outcome: int | None) -> None:
    access = Access({"box": "s"})
    header = f"Basic {base64.b64encode(pair).decode()}"
    request = ("GET", "/api/v2/private/get_positions", "")
    if outcome is None:
        assert access.holder_of_header(header, request, 0.0).client == "box"
    else:
        assert code(lambda: access.holder_of_header(header, request, 0.0)) == outcome


@pytest.mark.parametrize("secret", ["é", "", None, 5, ["s"]])
def test_a_secret_of_any_kind_is_only_wrong(secret: object) -> None:
    assert code(lambda: Access({"box": "s"}).log_in({**SECRET, "client_secret": secret}, 0.0)) == 13004


def test_a_refresh_token_is_no_access_token_and_an_expiry_can_be_asked_for() -> None:
    access = Access({"box": "s"})
    _, reply = access.log_in({**SECRET, "scope": "trade:read expires:60"}, 0.0)
    assert reply["expires_in"] == 60
    assert code(lambda: access.holder(reply["refresh_token"], 0.0)) == 13009
    assert code(lambda: access.holder(reply["access_token"], 61.0)) == 13009


def test_a_fork_is_of_the_session_named_and_leaves_the_refresh_token_good() -> None:
    access = Access({"box": "s"})
    _, reply = access.log_in(SECRET, 0.0)
    for name in ("one", "two"):
        forked = access.fork({"refresh_token": reply["refresh_token"], "session_name": name}, 1.0)
        assert access.holder(forked["access_token"], 2.0).scope == f"account:read trade:read wallet:read session:{name}"
    assert code(lambda: access.fork({"refresh_token": "none", "session_name": "x"}, 1.0)) == 13009
    assert code(lambda: access.fork({"refresh_token": reply["refresh_token"]}, 1.0)) == -32602


def test_private_methods_join_by_name_and_are_let_in_by_scope(monkeypatch: pytest.MonkeyPatch) -> None:
    def buy(_market: Any, params: Any, grant: Grant) -> dict[str, Any]:
        return {"bought": params["amount"], "by": grant.client}

    monkeypatch.setitem(private.PRIVATE, "private/buy", private.PrivateMethod(buy, "trade:read_write"))
    market: Any = None
    assert code(lambda: private.call("private/sell", market, {}, Grant("box", "trade:read_write", 1.0))) == -32601
    assert code(lambda: private.call("private/buy", market, {}, Grant("box", "trade:read account:read_write", 1.0))) == 13021
    assert private.call("private/buy", market, {"amount": 2}, Grant("box", "account:read trade:read_write", 1.0)) == {
        "bought": 2,
        "by": "box",
    }
    account = Account()
    assert sum(account.charge("private/buy", 0.0) for _ in range(30)) == 20, "orders draw on the matching engine's pool"


@pytest.mark.parametrize(
    ("scope", "wanted", "allowed"),
    [("trade:read", "trade:read", True), ("trade:read_write", "trade:read", True), ("mainaccount", "wallet:read_write", True),
     ("trade:read", "trade:read_write", False), ("account:read_write", "trade:read", False), ("session:x connection", "trade:read", False)],
)  # fmt: skip
def test_scopes(scope: str, wanted: str, allowed: bool) -> None:
    assert private.allows(scope, wanted) is allowed
