"""The restore drill: an archive that was never restored from is a hope, not a backup.

Once a month some archived days, other ones each month, are restored to a scratch folder, every hash and every row
read back, and compared with the lake where it still has the day. The receipt says what was tried and found.
"""

from __future__ import annotations

import random
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from options_agent.errors import OptionsAgentError
from options_agent.lake import encoding
from options_agent.lake.archive import restore_day
from options_agent.lake.files import sha256_of
from options_agent.lake.manifest import archived_days
from options_agent.lake.receipts import Receipt, fingerprint, write_receipt
from options_agent.lake.root import Lake
from options_agent.lake.store import read_day

if TYPE_CHECKING:
    import datetime as dt
    from collections.abc import Callable

    from options_agent.lake.archive import Archive, Proof
    from options_agent.lake.layout import Layer

STAGE: Final = "drill"


@dataclass(frozen=True, slots=True)
class DrilledDay:
    """One day of a drill. `local` is same, differs or absent, over all its files; `problems` is empty where all is well."""

    underlying: str
    day: dt.date
    version: int
    files: int
    rows: int
    bytes: int
    local: str
    problems: tuple[str, ...]


def drill(
    lake: Lake, archive: Archive, month: dt.date, days: int, told: Callable[[int, int, DrilledDay], None] | None = None
) -> list[DrilledDay]:
    """Restore `days` archived days of each underlying, drawn by the month, and check all of it. Nothing in the lake changes.

    Args:
        lake: compared with, and where the receipts (one an underlying, partition `2026-11`) go.
        archive: restored from.
        month: any day of it; the same month draws the same days while the archive has no new ones.
        days: at most this many of each underlying.
        told: called after each day with how many are done, how many there are, and the day.

    Returns:
        Every day tried; none where the archive is empty. A problem is in its day, not raised.

    Raises:
        DataError: a manifest's folder holds what is no day.
        StorageError: the archive cannot be listed, or a receipt cannot be written.
    """
    drawn = drawn_days(archive, month, days)
    found: list[DrilledDay] = []
    for underlying, day in drawn:
        found.append(_drilled(lake, archive, underlying, day))
        if told is not None:
            told(len(found), len(drawn), found[-1])
    for underlying in dict.fromkeys(one.underlying for one in found):
        own = [one for one in found if one.underlying == underlying]
        counts = {name: sum(getattr(one, name) for one in own) for name in ("files", "rows", "bytes")}
        counts |= {"days": len(own), "problems": sum(bool(one.problems) for one in own)}
        listed = [{**asdict(one), "day": one.day.isoformat()} for one in own]
        write_receipt(
            lake,
            Receipt(
                STAGE, underlying, f"{month:%Y-%m}", fingerprint(STAGE, listed), counts, (), {"archive": archive.files.url, "days": listed}
            ),
        )
    return found


def drawn_days(archive: Archive, month: dt.date, days: int) -> list[tuple[str, dt.date]]:
    """The days a month's drill restores: by underlying, drawn at random with the month as the seed."""
    by_underlying: dict[str, list[dt.date]] = {}
    for underlying, day in archived_days(archive.files):
        by_underlying.setdefault(underlying, []).append(day)
    drawn = []
    for underlying, known in by_underlying.items():
        dice = random.Random(f"{archive.network} {underlying} {month:%Y-%m}")  # noqa: S311 - a draw, not a secret
        drawn += [(underlying, day) for day in sorted(dice.sample(known, min(days, len(known))))]
    return drawn


def _drilled(lake: Lake, archive: Archive, underlying: str, day: dt.date) -> DrilledDay:
    with tempfile.TemporaryDirectory(prefix="restore-drill-") as folder:
        scratch = Lake(folder, lake.network)
        try:
            report = restore_day(archive, underlying, day, Path(folder) / lake.network)
        except OptionsAgentError as error:
            return DrilledDay(underlying, day, 0, 0, 0, 0, "absent", (str(error),))
        problems = [
            f"{proof.lake_path}: SHA-256 {proof.found} after the restore, expected {proof.expected}"
            for proof in report.proofs
            if not proof.holds
        ]
        compared = set()
        for proof in report.proofs:
            problems += _reading(scratch, proof)
            compared.add(_against(lake, proof))
        local = next((verdict for verdict in ("differs", "same") if verdict in compared), "absent")
        if local == "differs":
            problems.append("the lake has the day otherwise than the archive: archive it again")
        rows, size = sum(proof.rows for proof in report.proofs), sum(proof.bytes for proof in report.proofs)
        return DrilledDay(underlying, day, report.version, len(report.proofs), rows, size, local, tuple(problems))


def _reading(scratch: Lake, proof: Proof) -> list[str]:
    """Decode every row of a restored file through the lake's own readers."""
    layer: Layer = proof.lake_path.split("/", 1)[0]  # type: ignore[assignment]
    try:
        rows = len(read_day(scratch, layer, proof.underlying, proof.day))
    except OptionsAgentError as error:
        return [f"{proof.lake_path}: {error}"]
    said = encoding.summary_of(scratch.files.read(proof.lake_path), place=proof.lake_path).rows
    return [] if rows == proof.rows == said else [f"{proof.lake_path}: {rows:,} rows read, {said:,} in its footer, {proof.rows:,} archived"]


def _against(lake: Lake, proof: Proof) -> str:
    data = lake.files.read_or_none(proof.lake_path)
    if data is None:
        return "absent"
    return "same" if sha256_of(data) == proof.expected else "differs"
