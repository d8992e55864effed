"""Prompts in MLflow's registry: versions, the aliases that point at them, and which of them the desk speaks with.

A version that was read once is kept beside the desk's state, so that a registry that is away changes nothing.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, Final

from options_agent.durable import write_json
from options_agent.errors import ServiceError, SettingsError
from options_agent.llm.prompts import Message, Prompt, load_prompt, prompt_sha256
from options_agent.tracking.server import mlflow_of, server_reachable

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from options_agent.settings import Settings

PROMPT_HASH_TAG: Final = "options_agent.sha256"
CHAMPION: Final = "champion"
CHALLENGER: Final = "challenger"
#: Of a prompt: versions that were champion, in order, so that a rollback knows where to.
CHAMPIONS_TAG: Final = "options_agent.champions"
RESULT_TAG: Final = "options_agent.result"


@dataclass(frozen=True, slots=True)
class RegisteredPrompt:
    """A version of a prompt in the registry and the aliases that point at it."""

    name: str
    version: int
    sha256: str
    aliases: tuple[str, ...] = field(default=())


@dataclass(frozen=True, slots=True)
class PromptVersion:
    """A version with its text, and what it came to on held-out decisions (empty where it was not evaluated)."""

    prompt: Prompt
    version: int
    aliases: tuple[str, ...]
    created_ms: int
    result: dict[str, Any]


def register_prompts(prompts: Sequence[Prompt], settings: Settings) -> list[RegisteredPrompt]:
    """Register prompt files whose text changed; the first version is champion, later ones challenger.

    Raises:
        ServiceError: the registry is away.
    """
    mlflow, client = _registry(settings)
    registered = []
    for prompt in prompts:
        known = {v.prompt.sha256: v for v in prompt_versions(prompt.name, settings)}
        if prompt.sha256 in known:
            found = known[prompt.sha256]
            registered.append(RegisteredPrompt(prompt.name, found.version, prompt.sha256, found.aliases))
            continue
        version = mlflow.genai.register_prompt(
            name=prompt.name,
            template=[{"role": m.role, "content": m.template} for m in prompt.messages],
            response_format=prompt.response_schema,
            commit_message=f"file content {prompt.sha256[:12]}",
            tags={PROMPT_HASH_TAG: prompt.sha256},
        )
        alias = CHALLENGER if known else CHAMPION
        mlflow.genai.set_prompt_alias(prompt.name, alias, int(version.version))
        if alias == CHAMPION:
            client.set_prompt_tag(prompt.name, CHAMPIONS_TAG, str(version.version))
        registered.append(RegisteredPrompt(prompt.name, int(version.version), prompt.sha256, (alias,)))
    return registered


def prompt_versions(name: str, settings: Settings) -> list[PromptVersion]:
    """Every version of a prompt, oldest first; none where it was never registered.

    Raises:
        ServiceError: the registry is away.
    """
    _, client = _registry(settings)
    if client.get_prompt(name) is None:
        return []
    found = []
    for listed in client.search_prompt_versions(name):
        version = client.get_prompt_version(name, listed.version)
        messages = tuple(Message(m["role"], m["content"]) for m in version.template)
        schema = dict(version.response_format or {})
        sha256 = version.tags.get(PROMPT_HASH_TAG) or prompt_sha256(messages, schema)
        prompt = Prompt(name, messages, schema, sha256)
        result = json.loads(version.tags.get(RESULT_TAG) or "{}")
        found.append(
            PromptVersion(prompt, int(version.version), tuple(sorted(version.aliases or ())), int(version.creation_timestamp or 0), result)
        )
    return sorted(found, key=lambda v: v.version)


def version_of(name: str, which: str, settings: Settings) -> PromptVersion:
    """A version by number (`3`) or alias (`champion`).

    Raises:
        SettingsError: there is no such version.
        ServiceError: the registry is away.
    """
    versions = prompt_versions(name, settings)
    for version in versions:
        if which == str(version.version) or which in version.aliases:
            return version
    there = ", ".join(str(v.version) + "".join(f" ({a})" for a in v.aliases) for v in versions) or "none: `options-agent prompts list`"
    raise SettingsError(f"prompt {name!r} has no version {which!r}", remedy=f"there are {there}")


def promote(name: str, which: str, settings: Settings) -> PromptVersion:
    """Make a version champion; what was champion stays known for `rollback`. Doing it twice changes nothing.

    Raises:
        SettingsError: there is no such version.
        ServiceError: the registry is away.
    """
    mlflow, client = _registry(settings)
    chosen = version_of(name, which, settings)
    champions = _champions(client, name)
    mlflow.genai.set_prompt_alias(name, CHAMPION, chosen.version)
    if CHALLENGER in chosen.aliases:
        client.delete_prompt_alias(name, CHALLENGER)
    if champions[-1:] != [chosen.version]:
        client.set_prompt_tag(name, CHAMPIONS_TAG, ",".join(map(str, [*champions, chosen.version])))
    _keep(chosen.prompt, chosen.version, settings)
    return version_of(name, str(chosen.version), settings)


def rollback(name: str, settings: Settings) -> PromptVersion:
    """Make the former champion champion again; the one that goes becomes challenger.

    Raises:
        SettingsError: there was no other champion.
        ServiceError: the registry is away.
    """
    mlflow, client = _registry(settings)
    champions = _champions(client, name)
    if len(champions) < 2:
        raise SettingsError(f"prompt {name!r} had no other champion", remedy="promote a version: `options-agent prompts promote`")
    client.set_prompt_tag(name, CHAMPIONS_TAG, ",".join(map(str, champions[:-1])))
    mlflow.genai.set_prompt_alias(name, CHAMPION, champions[-2])
    mlflow.genai.set_prompt_alias(name, CHALLENGER, champions[-1])
    former = version_of(name, str(champions[-2]), settings)
    _keep(former.prompt, former.version, settings)
    return former


def record_result(name: str, version: int, result: dict[str, Any], settings: Settings) -> None:
    """Write what a version came to on held-out decisions beside it in the registry.

    Raises:
        ServiceError: the registry is away.
    """
    _, client = _registry(settings)
    client.set_prompt_version_tag(name, version, RESULT_TAG, json.dumps(result, sort_keys=True))


def prompt_in_use(name: str, settings: Settings) -> tuple[Prompt, str]:
    """The prompt the desk speaks with, and its name with version: the registry's champion, as it last was; the shipped file before.

    Raises:
        SettingsError: no prompt of that name.
    """
    if settings.mlflow_tracking_uri and server_reachable(settings):
        champion = next((v for v in prompt_versions(name, settings) if CHAMPION in v.aliases), None)
        if champion is not None:
            _keep(champion.prompt, champion.version, settings)
            return champion.prompt, f"{name}@{champion.version}"
    kept = _kept(name, settings)
    if kept.is_file():
        content = json.loads(kept.read_text(encoding="utf-8"))
        messages = tuple(Message(**m) for m in content["messages"])
        return Prompt(name, messages, content["response_schema"], content["sha256"]), f"{name}@{content['version']}"
    prompt = load_prompt(name)
    return prompt, f"{name}@{prompt.sha256[:8]}"


def _registry(settings: Settings) -> tuple[Any, Any]:
    mlflow = mlflow_of(settings)
    if not server_reachable(settings):
        raise ServiceError("the prompt registry is not reachable", place=settings.mlflow_tracking_uri, remedy="start the tracking server")
    return mlflow, mlflow.MlflowClient(settings.mlflow_tracking_uri)


def _champions(client: Any, name: str) -> list[int]:
    found = client.get_prompt(name)
    text = (found.tags if found is not None else {}).get(CHAMPIONS_TAG) or ""
    return [int(version) for version in text.split(",") if version]


def _kept(name: str, settings: Settings) -> Path:
    return settings.state_dir / "prompts" / f"{name}.json"


def _keep(prompt: Prompt, version: int, settings: Settings) -> None:
    messages = [asdict(m) for m in prompt.messages]
    content = {"version": version, "sha256": prompt.sha256, "messages": messages, "response_schema": prompt.response_schema}
    write_json(_kept(prompt.name, settings), content)
