"""What backtests and sweeps leave in MLflow."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from options_agent.tracking.runs import TrackedRun, track

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from options_agent.settings import Settings


def log_backtest(
    report: Mapping[str, Any], settings: Settings, *, above_luck: Mapping[str, float] | None = None, dagster_run_id: str | None = None
) -> str | None:
    """Record a written backtest report as a run of its strategy family's experiment.

    Args:
        report: a report's content with `path` and `plot`, as `backtest.runner.current_reports` gives it.
        settings: the tracking server, the network, where the orchestrator's pages are.
        above_luck: of `uncertainty.above_luck`: deflated Sharpe ratios, and among how many looks.
        dagster_run_id: the run that made it, linked both ways.

    Returns:
        The run's URL, or None when it waits in the outbox.
    """
    strategy, provenance = report["strategy"], report["provenance"]
    link = f"{settings.dagster_url.rstrip('/')}/runs/{dagster_run_id}" if settings.dagster_url and dagster_run_id else ""
    start, end = (report["range"][k] for k in ("start", "end"))
    note = [f"**{strategy['name']} on {report['underlying']}**, {start[:10]} to {end[:10]}: {report['status']}.", strategy["in_words"]]
    note += [f"- {reason}" for reason in [*report["status_reasons"], *report.get("provisos", [])]]
    if link:
        note.append(f"[The Dagster run that made it]({link})")
    rules = {f"{part}.{k}": str(v) for part in ("entry", "exit", "filters") for k, v in strategy[part].items()}
    intervals = report.get("uncertainty", {}).get("intervals", {})
    spread = _ends(intervals)
    spread |= {f"probabilistic_sharpe_{c}": odds for c, odds in report.get("uncertainty", {}).get("probabilistic_sharpe", {}).items()}
    regimes = {f"regime.{r['regime']}.{k}": r[k] for r in report["regimes"] for k in ("return_coin", "return_usd", "trades", "win_rate")}
    return track(
        TrackedRun(
            key=report["run"],
            experiment=f"{settings.network}/{strategy['family']}",
            name=f"{strategy['name']} {report['underlying']} {start[:10]}..{end[:10]}",
            params={
                "strategy": strategy["name"],
                "underlying": report["underlying"],
                "start": start,
                "end": end,
                "legs": strategy["in_words"],
            }
            | rules
            | {f"costs.{k}": str(v) for k, v in provenance["settings"].items()},
            metrics={k: float(v) for k, v in (report["metrics"] | spread | dict(above_luck or {}) | regimes).items() if v is not None},
            tags={
                "network": settings.network,
                "status": report["status"],
                "data_fingerprint": provenance["data_fingerprint"],
                "code_sha256": provenance["code_sha256"],
                "report": report["path"],
                "dagster.run_id": dagster_run_id or "",
                "dagster.run_url": link,
            },
            artifacts=[report["path"], report["plot"]],
            note="\n\n".join(note),
            start_ms=int(time.time() * 1_000),
            end_ms=int(time.time() * 1_000),
        ),
        settings,
    )


def _ends(intervals: Mapping[str, Sequence[float] | None]) -> dict[str, float]:
    """Each interval as a `_low` and a `_high`, beside its number."""
    return {f"{name}_{end}": found[n] for name, found in intervals.items() if found for n, end in enumerate(("low", "high"))}


def log_sweep(content: Mapping[str, Any], report: str, table: str, settings: Settings, *, dagster_run_id: str | None = None) -> str | None:
    """Record a written sweep: one run with all its configurations as an artifact, and its best ones as runs below it.

    Args:
        content: as `backtest.sweep_report.sweep_content` gives it; report, table: where it was written.
        settings, dagster_run_id: as for `log_backtest`.

    Returns:
        The sweep's URL, or None when it waits in the outbox.
    """
    strategy, now = content["strategy"], int(time.time() * 1_000)
    start, end = (content["range"][k][:10] for k in ("start", "end"))
    link = f"{settings.dagster_url.rstrip('/')}/runs/{dagster_run_id}" if settings.dagster_url and dagster_run_id else ""
    name = f"{strategy['name']} {content['underlying']} {start}..{end}"
    common = {"strategy": strategy["name"], "underlying": content["underlying"], "start": start, "end": end}
    tags = {"network": settings.network, "data_fingerprint": content["data_fingerprint"], "code_sha256": content["code_sha256"]}
    flat = {"looks": content["looks"], "overfitting": content["overfitting"]} | content["status"]
    flat |= {f"median_{k}": v for k, v in content["median"].items()} | {f"positive_{k}": v for k, v in content["positive"].items()}
    key = f"sweep-{content['sweep']}"
    url = track(
        TrackedRun(
            key=key,
            experiment=f"{settings.network}/sweeps/{strategy['family']}",
            name=f"sweep of {name}",
            params=common | {f"grid.{k}": str(v) for k, v in content["grid"].items()},
            metrics={k: float(v) for k, v in flat.items() if v is not None},
            tags=tags | {"report": report, "dagster.run_url": link},
            artifacts=[report, table],
            note=f"**{content['looks']:,} configurations of {name}.** The best stand below this run; all of them are in the artifact.",
            start_ms=now,
            end_ms=now,
        ),
        settings,
    )
    for rank, row in enumerate(content["best"], 1):
        numbers = {k: v for k, v in row.items() if k not in content["grid"] and isinstance(v, (int, float))}
        numbers |= _ends({k.removesuffix("_interval"): v for k, v in row.items() if k.endswith("_interval")}) | {"looks": content["looks"]}
        track(
            TrackedRun(
                key=f"{key}_{rank:02d}",  # sorts after its parent's, which must be sent first
                experiment=f"{settings.network}/sweeps/{strategy['family']}",
                name=f"{rank} of {content['looks']:,}: {name}",
                params=common | {k: str(row[k]) for k in content["grid"]},
                metrics={k: float(v) for k, v in numbers.items()},
                tags=tags | {"status": row["status"]},
                start_ms=now,
                end_ms=now,
                parent=key,
            ),
            settings,
        )
    return url
