"""`options-agent evaluate`: models on the same held-out decisions, and the gate to promotion."""

from __future__ import annotations

from typing import Annotated

import typer


def evaluate_command(
    models: Annotated[list[str] | None, typer.Argument(help="models; by default the base, the champion and the newest trained one")] = None,
    week: Annotated[
        list[str] | None, typer.Option(help="held-out ISO week, 2026-W05; by default those the newest model did not see")
    ] = None,
    prompt: Annotated[
        str | None, typer.Option(help="version of prompt `decision`: a number, an alias, or `file`; its result is recorded")
    ] = None,
    margin: Annotated[float, typer.Option(help="how much less regret than the champion is asked for, coin a decision")] = 0.0,
    play: Annotated[bool, typer.Option(help="play the choices through the engine, too")] = True,
    most: Annotated[int | None, typer.Option(min=10, help="decisions at most, evenly spread")] = None,
    promote: Annotated[bool, typer.Option("--promote", help="make the challenger champion if the gate lets it pass")] = False,
) -> None:
    """Evaluate base, trained, rule-based and never-trading on decisions none was trained on: regret, agreement, and P&L when played."""
    from rich.table import Table

    from options_agent.cli.terminal import console_of, desk_settings
    from options_agent.llm.evaluation.evaluate import evaluate, promote_model
    from options_agent.llm.evaluation.gate import Gate

    settings, console = desk_settings(), console_of()
    with console.status("reading decisions") as status:
        found = evaluate(
            settings, models, week, prompt_version=prompt, gate=Gate(margin=margin), play=play, most=most, progress=status.update
        )
    apart = {d.model: d for d in found.differences}
    table = Table(title=f"{found.decisions:,} held-out decisions of {', '.join(found.weeks)}, prompt {found.prompt}", title_justify="left")
    for name in ("model", "usable", "regret, coin", "against champion, 95 %", "value, coin", "agrees", "USD each", "played, coin"):
        table.add_column(name, justify="left" if name == "model" else "right")
    for s in found.scores:
        d, played = apart.get(s.model), found.played.get(s.model, ())
        between = "champion" if s.model == found.champion else "-" if d is None or d.low is None else f"{d.low:+.6f} to {d.high:+.6f}"
        returned = "-" if not played else f"{sum(p.return_coin for p in played) / len(played):+.2%}"
        table.add_row(
            s.model, f"{s.valid:.1%}", f"{s.regret:.6f}", between, f"{s.value:+.6f}", f"{s.agreement:.0%}", f"{s.cost_usd:.6f}", returned
        )
    console.print(table)
    console.print("[dim]Regret: value of the best action less the chosen one's over three days, at executable prices.[/]")
    if found.passage is not None:
        told = "passes the gate" if found.passage.passed else "does not pass the gate: " + "; ".join(found.passage.lacking)
        console.print(f"{found.challenger} {told}")
    if promote:
        console.print(f"{promote_model(settings, found)} is champion")
    console.print(f"Report {found.report}")
