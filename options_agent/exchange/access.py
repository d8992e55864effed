"""Logging in: client credentials, a signature of them, and refreshing; tokens with scopes and an end."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import secrets
from dataclasses import dataclass, field
from typing import Any, Final

from options_agent.exchange.errors import RpcError

LASTS: Final = 900.0
DEFAULT_SCOPE: Final = "account:read trade:read wallet:read connection"
REFRESH_LASTS: Final = 31_536_000.0
_SIGNATURE_WINDOW_MS: Final = 60_000


@dataclass(frozen=True, slots=True)
class Grant:
    """Who a token is of, what it may, and until which market second."""

    client: str
    scope: str
    until: float
    refresh: bool = False


@dataclass(slots=True)
class Access:
    """The keys the box knows, by id, and the tokens it gave out."""

    keys: dict[str, str] = field(default_factory=dict)
    tokens: dict[str, Grant] = field(default_factory=dict)

    def log_in(self, params: dict[str, Any], now: float) -> tuple[Grant, dict[str, Any]]:
        """`public/auth`: the grant, and the reply.

        Raises:
            RpcError: 13004 where the credentials are wrong, 13009 where a refresh token is, -32602 for another grant type.
        """
        kind, former = params.get("grant_type"), None
        if kind == "client_credentials":
            client = self._known(params)
            if not hmac.compare_digest(self.keys[client].encode(), str(params.get("client_secret", "")).encode()):
                raise RpcError(13004)
        elif kind == "client_signature":
            client = self._known(params)
            self._check_signature(client, params, now)
        elif kind == "refresh_token":
            former = self.tokens.pop(str(params.get("refresh_token", "")), None)
            if former is None or not former.refresh or former.until < now:
                raise RpcError(13009, reason="invalid_token")
            client = former.client
        else:
            raise RpcError(-32602, reason="unknown grant type", param="grant_type")
        scope = str(params.get("scope") or (former.scope if former else DEFAULT_SCOPE))
        grant, reply = self._given(client, scope, now)
        if "state" in params:
            reply["state"] = params["state"]
        return grant, reply

    def fork(self, params: dict[str, Any], now: float) -> dict[str, Any]:
        """`public/fork_token`: tokens of a session of another name; the refresh token it is given goes on to serve.

        Raises:
            RpcError: 13009 where the refresh token is wrong, -32602 without a session name.
        """
        held = self.tokens.get(str(params.get("refresh_token", "")))
        if held is None or not held.refresh or held.until < now:
            raise RpcError(13009, reason="invalid_token")
        name = params.get("session_name")
        if not isinstance(name, str) or not name:
            raise RpcError(-32602, reason="value required", param="session_name")
        others = [part for part in held.scope.split() if not part.startswith("session:") and part != "connection"]
        return self._given(held.client, " ".join([*others, f"session:{name}"]), now)[1]

    def _given(self, client: str, scope: str, now: float) -> tuple[Grant, dict[str, Any]]:
        """New tokens. `expires:SECONDS` in the scope shortens the access token's life."""
        lasts = min((float(part[8:]) for part in scope.split() if part.startswith("expires:") and part[8:].isdigit()), default=LASTS)
        grant = Grant(client, scope, now + lasts)
        access, refresh = f"{secrets.token_hex(8)}.{secrets.token_urlsafe(32)}", secrets.token_urlsafe(40)
        self.tokens = {token: each for token, each in self.tokens.items() if each.until >= now}
        self.tokens[access] = grant
        self.tokens[refresh] = Grant(client, scope, now + REFRESH_LASTS, refresh=True)
        reply: dict[str, Any] = {
            "access_token": access,
            "refresh_token": refresh,
            "expires_in": int(lasts),
            "scope": scope,
            "token_type": "bearer",
            "enabled_features": [],
        }
        return grant, reply

    def holder(self, token: str, now: float) -> Grant:
        """The grant behind an access token. Raises RpcError 13009 where there is none, or it has ended."""
        grant = self.tokens.get(token)
        if grant is None or grant.refresh or grant.until < now:
            raise RpcError(13009, reason="invalid_token")
        return grant

    def holder_of_header(self, header: str, request: tuple[str, str, str], now: float) -> Grant:
        """The grant of an `Authorization` header: bearer, basic, or a signature of the request (verb, path with query, body).

        Raises:
            RpcError: 13004 where the credentials are wrong, 13009 where a token is, or the scheme is another.
        """
        kind, _, rest = header.partition(" ")
        if kind.lower() == "bearer":
            return self.holder(rest.strip(), now)
        if kind.lower() == "basic":
            try:
                client, _, secret = base64.b64decode(rest.strip(), validate=True).decode().partition(":")
            except (binascii.Error, UnicodeDecodeError):
                raise RpcError(13004) from None
            if not hmac.compare_digest(self.keys[self._known({"client_id": client})].encode(), secret.encode()):
                raise RpcError(13004)
            return Grant(client, DEFAULT_SCOPE, now + LASTS)
        if kind.lower() == "deri-hmac-sha256":
            parts = dict(part.split("=", 1) for part in rest.split(",") if "=" in part)
            client = self._known({"client_id": parts.get("id")})
            verb, path, body = request
            signed = f"{parts.get('ts')}\n{parts.get('nonce')}\n{verb.upper()}\n{path}\n{body}\n"
            self._compare(client, signed, parts.get("sig", ""))
            return Grant(client, DEFAULT_SCOPE, now + LASTS)
        raise RpcError(13009, reason="unknown scheme")

    def _known(self, params: dict[str, Any]) -> str:
        client = params.get("client_id")
        if not isinstance(client, str) or client not in self.keys:
            raise RpcError(13004)
        return client

    def _check_signature(self, client: str, params: dict[str, Any], now: float) -> None:
        try:
            stamp = int(params["timestamp"])
        except (KeyError, TypeError, ValueError):
            raise RpcError(-32602, reason="value required", param="timestamp") from None
        if abs(stamp - now * 1_000) > _SIGNATURE_WINDOW_MS:
            raise RpcError(13004, reason="timestamp too far from the exchange's")
        self._compare(
            client, f"{params['timestamp']}\n{params.get('nonce', '')}\n{params.get('data', '')}", str(params.get("signature", ""))
        )

    def _compare(self, client: str, signed: str, signature: str) -> None:
        expected = hmac.new(self.keys[client].encode(), signed.encode(), hashlib.sha256).hexdigest()
        if not hmac.compare_digest(expected.encode(), signature.encode()):
            raise RpcError(13004)
