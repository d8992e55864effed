"""What a request asks an answer's shape to be, and whether it can be had."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from options_agent.llm.server.wire import WireError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from options_agent.llm.server.reading import Situation


def schema_of(shape: Mapping[str, Any] | None, inner: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """The JSON schema a request asks for, None where any text will do.

    Args:
        shape: `response_format` of a chat, `text.format` of a response.
        inner: where name, schema and strict are: `json_schema` of a chat, the format itself of a response.

    Raises:
        WireError: the kind is unknown, or the schema is none, or not one a strict answer can be given by.
    """
    kind = (shape or {}).get("type", "text")
    if kind == "text":
        return None
    if kind == "json_object":
        return {"type": "object"}
    if kind != "json_schema":
        raise WireError(400, f"response_format of type {kind!r} is not available", param="response_format")
    inner = inner or {}
    schema = inner.get("schema")
    if not inner.get("name") or not isinstance(schema, dict):
        raise WireError(400, "json_schema has a name and a schema", param="response_format.json_schema")
    from jsonschema import Draft202012Validator, SchemaError

    try:
        Draft202012Validator.check_schema(schema)
    except SchemaError as error:
        raise _refused(inner["name"], error.message) from None
    if inner.get("strict"):
        _check_strict(schema, inner["name"], "()")
    return schema


def _check_strict(schema: Any, name: str, where: str) -> None:
    """A strict schema leaves no property open: the provider refuses others too."""
    if not isinstance(schema, dict):
        return
    properties = schema.get("properties") or {}
    if schema.get("type") == "object" or properties:
        if schema.get("additionalProperties") is not False:
            raise _refused(name, f"In context={where}, 'additionalProperties' is required to be supplied and to be false.")
        if missing := sorted(set(properties) - set(schema.get("required") or ())):
            raise _refused(name, f"In context={where}, 'required' has to name every property. Missing {missing[0]!r}.")
    for key, value in properties.items():
        _check_strict(value, name, f"{where}.{key}")
    _check_strict(schema.get("items"), name, f"{where}.items")
    for part in ("anyOf", "$defs"):
        held = schema.get(part) or []
        for one in held.values() if isinstance(held, dict) else held:
            _check_strict(one, name, f"{where}.{part}")


def _refused(name: str, why: str) -> WireError:
    return WireError(400, f"Invalid schema for response_format {name!r}: {why}", param="response_format", code="invalid_json_schema")


def narrowed(situation: Situation, schema: Mapping[str, Any] | None) -> Situation:
    """The situation with the actions that the schema allows too.

    Raises:
        WireError: none is left.
    """
    choice = _property(schema, "action").get("enum")
    if choice is None:
        return situation
    actions = tuple(a for a in situation.actions if a in choice) if situation.actions else tuple(map(str, choice))
    if not actions:
        raise WireError(400, "no action of the schema is allowed by the prompt", param="response_format")
    return replace(situation, actions=actions)


def longest_rationale(schema: Mapping[str, Any] | None) -> int | None:
    """How many characters of reason the schema takes."""
    longest = _property(schema, "rationale").get("maxLength")
    return longest if isinstance(longest, int) else None


def _property(schema: Mapping[str, Any] | None, name: str) -> Mapping[str, Any]:
    found = ((schema or {}).get("properties") or {}).get(name)
    return found if isinstance(found, dict) else {}
