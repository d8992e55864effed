"""A soak: the box and two regional harvesters with faults on, many days of market in minutes; what was written against what was there.

    python benchmarks/soak_harvest.py [--minutes 10] [--speed 1200] [--interval 60] [--out FILE]

The exchange goes down and into maintenance over planned grid times, harvesters are killed -9 and started again, notifications are
dropped, doubled, late, shuffled and cut. At the end every grid time of the market is compared with the source that fed the box:
a row that could be had and is not there is lost; gaps must be those that were made, no more and no fewer.
"""

from __future__ import annotations

import argparse
import datetime as dt
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from options_agent.lake.events import events
from options_agent.lake.merging import merge_regions
from options_agent.lake.raw import read_raw_day, snapshot_files
from options_agent.lake.store import Lake, days, open_lake
from options_agent.market.synthetic.source import SyntheticSource
from options_agent.quality.gaps import find_gaps
from options_agent.settings import load_settings
from tests.servers.exchange import RunningBox, running_box

START = dt.datetime(2026, 3, 2, 0, 30, tzinfo=dt.UTC)
REGIONS = ("ams", "fra")
UNDERLYINGS = ("BTC", "ETH")
FAULTS = {"drop": 0.02, "duplicate": 0.02, "late": 0.02, "reorder": 0.1, "half_frame": 0.002, "bad_gateway": 0.02, "book_gap": 0.05}


@dataclass
class Memory:
    """Resident megabytes of each process over the wall's minutes."""

    samples: dict[str, list[tuple[float, float]]] = field(default_factory=dict)

    def look(self, at: float, processes: dict[str, subprocess.Popen[Any]]) -> None:
        for name, process in processes.items():
            try:
                size = psutil.Process(process.pid).memory_info().rss / 2**20
            except psutil.NoSuchProcess:
                continue
            self.samples.setdefault(name, []).append((at / 60, size))

    def shown(self) -> dict[str, dict[str, float]]:
        """Median of the second and of the last quarter, MB: the first is start-up, and a kill begins anew."""
        told = {}
        for name, found in self.samples.items():
            sizes = [size for _, size in found]
            quarter = max(len(sizes) // 4, 1)
            early, late = sorted(sizes[quarter : 2 * quarter] or sizes), sorted(sizes[-quarter:])
            told[name] = {
                "early_mb": round(early[len(early) // 2], 1),
                "late_mb": round(late[len(late) // 2], 1),
                "most_mb": round(max(sizes), 1),
            }
        return told


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=10.0, help="wall time")
    parser.add_argument("--speed", type=float, default=1_200.0, help="market seconds a second")
    parser.add_argument("--interval", type=int, default=60, help="minutes between snapshots")
    parser.add_argument("--seed", type=int, default=5)
    parser.add_argument("--out", type=Path, help="write the figures as JSON, too")
    wanted = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="soak-") as folder:
        told = soak(Path(folder), wanted.minutes * 60, wanted.speed, wanted.interval, wanted.seed)
    text = json.dumps(told, indent=1, default=str)
    print(text)
    if wanted.out:
        wanted.out.write_text(text + "\n", encoding="utf-8")
    sys.exit(0 if not told["rows_lost"] and not told["rows_duplicated"] and told["gaps_reported"] == told["gaps_injected"] else 1)


def soak(folder: Path, seconds: float, speed: float, interval: int, seed: int) -> dict[str, Any]:
    step, dice = dt.timedelta(minutes=interval), random.Random(seed)
    environment = {name: value for name, value in os.environ.items() if not name.startswith("OPTIONS_AGENT_")}
    environment |= {
        "OPTIONS_AGENT_HOME": str(folder / "home"),
        "OPTIONS_AGENT_LIVE_INTERVAL_MINUTES": str(interval),
        "OPTIONS_AGENT_DERIBIT__PRICES_SECONDS": "900",
    }
    settings = load_settings(home=folder / "home", source="deribit", _env_file=None)
    lake, memory, kills = open_lake(settings), Memory(), Counter[str]()
    feed = {"EXCHANGE__EVERY_SECONDS": str(int(speed / 2))}
    outages: list[tuple[str, dt.datetime, dt.datetime]] = []
    with running_box(folder, speed=speed, start=START, settings=feed, faults={**FAULTS, "seed": seed}) as box:
        environment["OPTIONS_AGENT_EXCHANGE__PORT"] = str(box.port)

        def started(region: str) -> subprocess.Popen[Any]:
            log = (folder / f"{region}.log").open("ab")
            command = [str(Path(sys.executable).with_name("options-agent")), "harvest", "--network", "synthetic", "--region", region]
            return subprocess.Popen([*command, "--quiet"], env=environment, stdout=log, stderr=log)

        running = {region: started(region) for region in REGIONS}
        _wait_for(lambda: all(_regions_of(lake, u) >= set(REGIONS) for u in UNDERLYINGS), 120)
        began, first = time.monotonic(), _newest(lake)
        next_kill, next_outage, next_look = 20.0, 30.0, 0.0
        while (at := time.monotonic() - began) < seconds:
            if at >= next_look:
                memory.look(at, {**running, "box": box.process})
                next_look += 5.0
            if at >= next_outage:
                outages.append(_outage(box, step, dice))
                next_outage = time.monotonic() - began + dice.uniform(30, 60)
            elif at >= next_kill:
                region = dice.choice(REGIONS)
                running[region].send_signal(signal.SIGKILL)
                running[region].wait()
                kills[region] += 1
                running[region] = started(region)
                next_kill = at + dice.uniform(25, 50)
            time.sleep(0.05)
        time.sleep(3 * step.total_seconds() / speed)
        last = _newest(lake)
        for process in running.values():
            process.send_signal(signal.SIGTERM)
        codes = [process.wait(60) for process in running.values()]
        stats = box.stats()
    return {
        "wall_minutes": round(seconds / 60, 1),
        "market_days": round((last - first) / dt.timedelta(days=1), 2),
        "interval_minutes": interval,
        "faults": FAULTS,
        "exit_codes": codes,
        "kills": dict(kills),
        **_compare(lake, first, last, step, outages),
        "messages": stats["messages"],
        "box_busy_share": round(stats["busy_seconds"] / seconds, 2),
        "box_behind_seconds": stats["behind_seconds"],
        "refused_10028": stats["refused"],
        "memory": memory.shown(),
    }


def _outage(box: RunningBox, step: dt.timedelta, dice: random.Random) -> tuple[str, dt.datetime, dt.datetime]:
    """Down or in maintenance over one to three grid times: from the middle before the first to shortly before the next after them.

    A harvester asks once at each grid time and for some seconds after it, so the grid times inside are those it cannot have.
    """
    kind, length = dice.choice(("down", "maintenance")), dice.randrange(1, 4)
    now = _market_time(box)
    first = _floor(now, step) + 2 * step
    begins, ends = first - step / 2, first + (length - 1) * step + step * 0.75
    _until(box, begins)
    box.fault(**{kind: True})
    _until(box, ends)
    box.fault(**{kind: False})
    return kind, first, first + (length - 1) * step


def _compare(
    lake: Lake, first: dt.datetime, last: dt.datetime, step: dt.timedelta, outages: list[tuple[str, dt.datetime, dt.datetime]]
) -> dict[str, Any]:
    """Every grid time from `first` to `last` against the source that fed the box."""
    plain = load_settings(_env_file=None).synthetic.model_copy(update={"defect_rate": 0.0, "outage_rate": 0.0})
    source = SyntheticSource(plain, interval=step)
    dark = {
        begin + n * step for _, begin, end in outages for n in range(int((end - begin) / step) + 1) if first <= begin + n * step <= last
    }
    written = lost = doubled = reported = unexpected = 0
    wrong: list[str] = []
    for underlying in UNDERLYINGS:
        have: dict[dt.datetime, set[str]] = {}
        for day in days(lake, "raw", underlying):
            raw = read_raw_day(lake, underlying, day)
            written += len(raw)
            keys = Counter(zip(raw["snapshot"].to_pylist(), raw["instrument"].to_pylist(), raw["region"].to_pylist(), strict=True))
            merged = merge_regions(raw)
            pairs = list(zip(merged["snapshot"].to_pylist(), merged["instrument"].to_pylist(), strict=True))
            doubled += sum(keys.values()) - len(keys) + len(pairs) - len(set(pairs))
            for at, name in pairs:
                have.setdefault(at, set()).add(name)
        for table in source.snapshots(underlying, first, last + dt.timedelta(seconds=1)):
            at = table["snapshot"][0].as_py()
            if at in dark:
                unexpected += at in have
                continue
            missing = {
                name for name, ends in zip(table["instrument"].to_pylist(), table["expiry"].to_pylist(), strict=True) if ends > at
            } - have.get(at, set())
            lost += len(missing)
            if missing:
                wrong.append(f"{underlying} {at:%m-%d %H:%M} lacks {len(missing)}")
        reported += _merged_missing(lake, underlying, first, last, step)
    return {
        "rows_written": written,
        "rows_lost": lost,
        "rows_duplicated": doubled,
        "outages": len(outages),
        "gaps_injected": len(dark) * len(UNDERLYINGS),
        "gaps_reported": reported,
        "written_in_the_dark": unexpected,
        "wrong": wrong[:20],
        "missed_besides": [
            f"{event.region} {event.underlying} {event.detail[:140]}"
            for event in events(lake, first.date(), last.date())
            if event.kind == "snapshot_missed" and dt.datetime.fromisoformat(event.detail[:25]) not in dark
        ][:30],
    }


def _merged_missing(lake: Lake, underlying: str, first: dt.datetime, last: dt.datetime, step: dt.timedelta) -> int:
    """Grid times that the gap report says no region has."""
    rows = find_gaps(lake, underlying, first.date(), last.date(), interval=step).to_pylist()
    missing: dict[str, set[dt.datetime]] = {}
    for row in rows:
        for n in range(1, row["missing"] + 1):
            missing.setdefault(row["region"], set()).add(row["opened_at"] + n * step)
    if "any" in missing:
        return len(missing["any"])
    return len(set.intersection(*(missing.get(region, set()) for region in REGIONS)))


def _regions_of(lake: Lake, underlying: str) -> set[str]:
    return {file.region for day in days(lake, "raw", underlying)[-1:] for file in snapshot_files(lake, underlying, day)}


def _newest(lake: Lake) -> dt.datetime:
    """The newest grid time that every underlying has from some region."""
    return min(max(file.snapshot for file in snapshot_files(lake, u, days(lake, "raw", u)[-1])) for u in UNDERLYINGS)


def _market_time(box: RunningBox) -> dt.datetime:
    return dt.datetime.fromisoformat(box.stats()["now"])


def _until(box: RunningBox, at: dt.datetime) -> None:
    while _market_time(box) < at:
        time.sleep(0.02)


def _floor(at: dt.datetime, step: dt.timedelta) -> dt.datetime:
    midnight = at.replace(hour=0, minute=0, second=0, microsecond=0)
    return midnight + (at - midnight) // step * step


def _wait_for(condition: Any, seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise SystemExit("the harvesters did not begin")
        time.sleep(0.2)


if __name__ == "__main__":
    main()
