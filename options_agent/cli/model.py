"""`options-agent model`: the embedded model server in the foreground, and the models it has."""

from __future__ import annotations

from typing import Annotated

import typer

app = typer.Typer(no_args_is_help=True, help="The language models that run and train on this machine: no key, no network.")


@app.command("serve")
def serve_command(port: Annotated[int, typer.Option(min=0, max=65535, help="on 127.0.0.1; 0 for any free one")] = 4100) -> None:
    """Serve this desk's models by OpenAI's wire protocol until Ctrl-C, for a study, an evaluation or any client of that protocol.

    `options-agent run` starts it by itself. Where `OPTIONS_AGENT_LANGUAGE_MODEL__API_KEY` is set, callers must send that key.
    """
    from options_agent.cli.terminal import console_of
    from options_agent.errors import ServiceError
    from options_agent.llm.server.running import HOST, serve
    from options_agent.local.ports import choose_port, is_free
    from options_agent.settings import load_settings

    settings = load_settings()
    if port and not is_free(port):
        raise ServiceError(f"port {port} of {HOST} is taken", place=f"{HOST}:{port}", remedy="--port 0 takes a free one")
    chosen = choose_port(port, frozenset({0}))
    key = settings.language_model.api_key
    console_of().print(f"OPTIONS_AGENT_LANGUAGE_MODEL__BASE_URL=http://{HOST}:{chosen}/v1   (Ctrl-C ends it)")
    serve(settings.models_dir, chosen, key.get_secret_value() if key else None)


@app.command("list")
def list_command() -> None:
    """List the models that this desk has: those that need no training, and those it trained, with when they stop."""
    import datetime as dt

    from rich.table import Table

    from options_agent.cli.terminal import console_of
    from options_agent.llm.server.models import models_in
    from options_agent.settings import load_settings

    table = Table("model", "of", "made", "stops")
    for model in models_in(load_settings().models_dir):
        made = dt.datetime.fromtimestamp(model["created"], dt.UTC)
        table.add_row(model["id"], model["owned_by"], f"{made:%Y-%m-%d %H:%M}", str(model.get("shutdown_date", "")))
    console_of().print(table)
