"""Says what became slower than in a former version by more than noise, and fails on it; keeps results by version.

    python benchmarks/track.py [--against REF] [--threshold 0.10] [--record]

Both versions run the kernels of `kernels.py` on this machine, now, in turns: stored seconds of another day or machine are never compared.
The former version is REF, else the last tag, else the commit last recorded in results/history.jsonl; its files are taken from git
into the user's cache. With --record the present version's figures are added to that file. Exit code 1: something is slower; 2: there
is no version to compare with.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import platform
import subprocess
import sys
import tarfile
import time
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

sys.path.append(str(Path(__file__).resolve().parent))

from rich.console import Console
from rich.table import Table
from slowdown import CONFIDENCE, THRESHOLD, Verdict, judge
from year_market import year_folder

if TYPE_CHECKING:
    from collections.abc import Sequence

REPOSITORY = Path(__file__).resolve().parents[1]
KEPT = REPOSITORY / "benchmarks" / "results" / "history.jsonl"
SESSIONS, PAIRS = 6, 8
Times = dict[str, list[list[tuple[float, float]]]]


class Version:
    """A process that runs the kernels of a tree."""

    def __init__(self, tree: Path) -> None:
        self.process = subprocess.Popen(
            [sys.executable, str(REPOSITORY / "benchmarks" / "kernels.py")],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=tree,
            env=os.environ | {"PYTHONPATH": str(tree)},
        )
        answer = self.ask({"load": True})
        assert Path(answer["tree"]) == tree.resolve(), f"{answer['tree']} was imported, not {tree}"
        self.kernels: list[str] = answer["kernels"]
        self.missing: dict[str, str] = answer["missing"]

    def ask(self, question: dict[str, Any]) -> dict[str, Any]:
        assert self.process.stdin
        assert self.process.stdout
        self.process.stdin.write(json.dumps(question) + "\n")
        self.process.stdin.flush()
        answer: dict[str, Any] = json.loads(self.process.stdout.readline())
        return answer

    def seconds(self, kernel: str) -> float:
        """CPU time of one call."""
        return float(self.ask({"run": kernel})["seconds"])

    def close(self) -> None:
        assert self.process.stdin
        self.process.stdin.close()
        self.process.wait(timeout=60)


def git(*arguments: str) -> str:
    """What git says; empty where it fails."""
    done = subprocess.run(["git", "-C", str(REPOSITORY), *arguments], capture_output=True, text=True, check=False)
    return done.stdout.strip() if done.returncode == 0 else ""


def former(named: str | None) -> str:
    """The commit to compare with; empty where there is none."""
    recorded = [json.loads(line)["commit"] for line in KEPT.read_text(encoding="utf-8").splitlines()] if KEPT.is_file() else []
    for ref in [named] if named else [git("describe", "--tags", "--abbrev=0"), *reversed(recorded)]:
        if ref and (commit := git("rev-parse", "--verify", "--quiet", f"{ref}^{{commit}}")):
            return commit
    return ""


def tree_of(commit: str) -> Path:
    """The project's files at a commit, below the user's cache; compiled code stays beside them for the next time."""
    tree = year_folder().parent / "trees" / commit[:12]
    if not tree.is_dir():
        archive = subprocess.run(["git", "-C", str(REPOSITORY), "archive", commit, "options_agent"], capture_output=True, check=True).stdout
        making = tree.with_name(f".{tree.name}.{os.getpid()}")
        with tarfile.open(fileobj=io.BytesIO(archive)) as files:
            files.extractall(making, filter="data")
        making.rename(tree)
    return tree


def compare(old: Path, new: Path, sessions: int = SESSIONS, pairs: int = PAIRS) -> tuple[Times, dict[str, str]]:
    """Seconds (old, new) of every kernel both have, by session; and what is missing where."""
    times: Times = {}
    missing: dict[str, str] = {}
    for session in range(sessions):
        before, now = Version(old), Version(new)
        missing = {f"{name} ({which})": why for which, v in (("former", before), ("present", now)) for name, why in v.missing.items()}
        for kernel in (k for k in now.kernels if k in before.kernels):
            measured = []
            for pair in range(pairs):
                if (session + pair) % 2:
                    second = now.seconds(kernel)
                    measured.append((before.seconds(kernel), second))
                else:
                    first = before.seconds(kernel)
                    measured.append((first, now.seconds(kernel)))
            times.setdefault(kernel, []).append(measured)
        before.close()
        now.close()
    return times, missing


def show(verdicts: dict[str, Verdict], missing: dict[str, str], commit: str, threshold: float, console: Console) -> None:
    """A row a kernel."""
    title = f"Time now over time at {commit[:12]} ({CONFIDENCE:.0%} interval; slower or faster beyond {threshold:.0%})"
    table = Table(title=title, title_justify="left")
    for column in ("kernel", "ratio", "interval", ""):
        table.add_column(column)
    for name, v in verdicts.items():
        colour = {"slower": "red", "faster": "green", "same": "dim"}[v.word]
        table.add_row(name, f"{v.ratio:.3f}", f"{v.low:.3f} to {v.high:.3f}", f"[{colour}]{v.word}[/]")
    console.print(table)
    for name, why in missing.items():
        console.print(f"not compared: {name}: {why}", markup=False)


def record(times: Times, verdicts: dict[str, Verdict], commit: str) -> None:
    """Add a line for the present version."""
    line = {
        "commit": git("rev-parse", "HEAD"),
        "changed": bool(git("status", "--porcelain", "--untracked-files=no", "--", "options_agent")),
        "at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "machine": {"python": platform.python_version(), "machine": platform.machine(), "cores": os.cpu_count(), "load": os.getloadavg()},
        "seconds": {name: min(new for session in sessions for _, new in session) for name, sessions in times.items()},
        "against": commit,
        "verdicts": {name: asdict(v) for name, v in verdicts.items()},
    }
    with KEPT.open("a", encoding="utf-8") as file:
        file.write(json.dumps(line) + "\n")


def main(arguments: Sequence[str] | None = None) -> int:
    """Compare, show, record; 1 where something is slower."""
    parser = argparse.ArgumentParser(description="compare this tree's speed with a former version")
    parser.add_argument("--against", metavar="REF", help="former version: default the last tag, else the commit last recorded")
    parser.add_argument("--threshold", type=float, default=THRESHOLD, help="how much slower is too much, decimal")
    parser.add_argument("--record", action="store_true", help="keep the figures in results/history.jsonl")
    asked, console = parser.parse_args(arguments), Console()
    commit = former(asked.against)
    if not commit and (asked.against or not asked.record):
        console.print(f"no version {asked.against or 'tagged or recorded'} in this clone to compare with: name one with --against REF")
        return 2
    commit = commit or git("rev-parse", "HEAD")  # the first record of all has nothing but itself to be compared with
    times, missing = compare(tree_of(commit), REPOSITORY)
    verdicts = {name: judge(sessions, asked.threshold) for name, sessions in times.items()}
    show(verdicts, missing, commit, asked.threshold, console)
    if asked.record:
        record(times, verdicts, commit)
    slower = [name for name, v in verdicts.items() if v.word == "slower"]
    if slower:
        console.print(f"[red]slower by more than {asked.threshold:.0%} and noise: {', '.join(slower)}[/]")
    return 1 if slower else 0


if __name__ == "__main__":
    sys.exit(main())
