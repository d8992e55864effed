"""The exchange's error codes as Python exceptions that the dispatcher turns into JSON-RPC errors."""

from __future__ import annotations

from typing import Any, Final

NAMES: Final = {
    10009: "not_enough_funds",
    10028: "too_many_requests",
    10040: "retry",
    10047: "matching_engine_queue_full",
    11029: "invalid_arguments",
    11050: "bad_request",
    11051: "system_maintenance",
    11094: "internal_server_error",
    13004: "invalid_credentials",
    13009: "unauthorized",
    13020: "not_found",
    13021: "forbidden",
    13025: "method_switched_off_by_admin",
    13778: "raw_subscriptions_not_available_for_unauthorized",
    13888: "timed_out",
    -32600: "request entity too large",
    -32601: "Method not found",
    -32602: "Invalid params",
    -32700: "Parse error",
}


class RpcError(Exception):
    """An error reply: code, the exchange's name for it, and what it was about."""

    def __init__(self, code: int, *, reason: str | None = None, param: str | None = None) -> None:
        super().__init__(NAMES[code])
        self.code = code
        self.data = {name: value for name, value in (("reason", reason), ("param", param)) if value is not None}

    def reply(self) -> dict[str, Any]:
        """The `error` member."""
        return {"message": NAMES[self.code], "code": self.code, **({"data": self.data} if self.data else {})}
