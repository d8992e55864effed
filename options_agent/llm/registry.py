"""Prompts in MLflow's registry: versions, and the aliases that point at them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from options_agent.errors import ServiceError
from options_agent.tracking.server import mlflow_of, server_reachable

if TYPE_CHECKING:
    from collections.abc import Sequence

    from options_agent.llm.prompts import Prompt
    from options_agent.settings import Settings

PROMPT_HASH_TAG: Final = "options_agent.sha256"
CHAMPION: Final = "champion"
CHALLENGER: Final = "challenger"


@dataclass(frozen=True, slots=True)
class RegisteredPrompt:
    """A version of a prompt in the registry and the aliases that point at it."""

    name: str
    version: int
    sha256: str
    aliases: tuple[str, ...] = field(default=())


def register_prompts(prompts: Sequence[Prompt], settings: Settings) -> list[RegisteredPrompt]:
    """Register prompt files whose text changed; the first version is champion, later ones challenger.

    Raises:
        ServiceError: the registry is away.
    """
    mlflow = mlflow_of(settings)
    if not server_reachable(settings):
        raise ServiceError("the prompt registry is not reachable", place=settings.mlflow_tracking_uri, remedy="start the tracking server")
    client = mlflow.MlflowClient(settings.mlflow_tracking_uri)
    registered = []
    for prompt in prompts:
        latest = _latest_prompt(client, prompt.name)
        if latest is None or latest.tags.get(PROMPT_HASH_TAG) != prompt.sha256:
            version = mlflow.genai.register_prompt(
                name=prompt.name,
                template=[{"role": m.role, "content": m.template} for m in prompt.messages],
                response_format=prompt.response_schema,
                commit_message=f"file content {prompt.sha256[:12]}",
                tags={PROMPT_HASH_TAG: prompt.sha256},
            )
            mlflow.genai.set_prompt_alias(prompt.name, CHAMPION if latest is None else CHALLENGER, int(version.version))
        else:
            version = latest
        found = client.get_prompt_version(prompt.name, version.version)
        registered.append(RegisteredPrompt(prompt.name, int(version.version), prompt.sha256, tuple(sorted(found.aliases or ()))))
    return registered


def _latest_prompt(client: Any, name: str) -> Any | None:
    versions = list(client.search_prompt_versions(name)) if client.get_prompt(name) is not None else []
    return max(versions, key=lambda v: int(v.version)) if versions else None
