"""The ledger of calls of language models: what is reserved before a call, settled after it, and how much of a budget is left.

A row a call, in SQLite beside the desk's state, or on the desk's Postgres. Reserving looks at the budgets and writes its row in one
transaction that lets nobody else in between, so that no number of callers passes a budget. A reservation whose caller died counts in full.
"""

from __future__ import annotations

import datetime as dt
import json
import threading
import uuid
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final

from options_agent.errors import BudgetError, StorageError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from sqlalchemy import Connection, Engine, Table

    from options_agent.settings import Settings

RESERVED, SETTLED, FAILED = "reserved", "settled", "failed"
#: Where a call's trace is: a sender that dies leaves `sending`, and the next one asks the server whether it has it.
UNSENT, SENDING, SENT = "unsent", "sending", "sent"
#: What a report can be grouped by.
GROUPS: Final = ("feature", "model", "prompt", "day")
#: The same lock for every writer on a Postgres.
_LOCK: Final = 7_265_113
TOTAL: Final = "all"
_OPENING: Final = threading.Lock()


@dataclass(frozen=True, slots=True)
class Reservation:
    """A call about to be made. `call` is its id for ever; `usd` the most it can cost."""

    call: str
    usd: float


@dataclass(frozen=True, slots=True)
class Settlement:
    """What came of a call.

    Attributes:
        status: `settled`, or `failed`: nothing usable came back. What the provider counted is paid all the same.
        answer: the text that came back, or what went wrong.
    """

    status: str
    cost_usd: float
    tokens_in: int
    tokens_out: int
    seconds: float
    answer: str


@dataclass(frozen=True, slots=True)
class Budget:
    """A day's budget and what of it is spent or reserved, USD."""

    name: str
    limit: float
    used: float

    @property
    def share(self) -> float:
        """Share that is used; 1 of a budget of nothing."""
        return self.used / self.limit if self.limit > 0 else 1.0


def reserve(
    settings: Settings,
    feature: str,
    model: str,
    prompt: str,
    usd: float,
    request: Sequence[Mapping[str, str]],
    now: dt.datetime | None = None,
) -> Reservation:
    """Reserve the most a call can cost.

    Raises:
        BudgetError: the budget of the feature, or of all, would be passed.
        StorageError: the ledger cannot be written.
    """
    now = now or dt.datetime.now(dt.UTC)
    call = uuid.uuid4().hex
    with _writing(settings) as (connection, calls):
        for budget in _budgets(settings, connection, calls, now.date()):
            if budget.name in {feature, TOTAL} and budget.used + usd > budget.limit + 1e-12:
                raise BudgetError(
                    f"a call of {feature} may cost {usd:.6f} USD and {budget.limit - budget.used:.6f} of {budget.limit:g} are left today",
                    place=f"budget of {budget.name}, {now:%Y-%m-%d}",
                    remedy="wait for the next UTC day, or raise OPTIONS_AGENT_LANGUAGE_MODEL__BUDGETS / BUDGET_USD_PER_DAY",
                )
        row: dict[str, Any] = {
            "call": call,
            "at": now.isoformat(),
            "day": now.date().isoformat(),
            "feature": feature,
            "model": model,
            "prompt": prompt,
        }
        row |= {"status": RESERVED, "reserved_usd": usd, "request": json.dumps(list(request)), "traced": UNSENT}
        connection.execute(calls.insert().values(**row, cost_usd=0.0, tokens_in=0, tokens_out=0, seconds=0.0, answer=""))
    return Reservation(call, usd)


def settle(settings: Settings, reservation: Reservation, settlement: Settlement) -> None:
    """Write what the call came to; a second time changes nothing.

    Raises:
        StorageError: the ledger cannot be written.
    """
    with _writing(settings) as (connection, calls):
        values = {name: getattr(settlement, name) for name in Settlement.__dataclass_fields__}
        connection.execute(calls.update().where(calls.c.call == reservation.call, calls.c.status == RESERVED).values(**values))


def budgets(settings: Settings, day: dt.date | None = None) -> list[Budget]:
    """Every budget that is set, with what a day (today by default) used of it; that of all calls is named `all`."""
    with _reading(settings) as (connection, calls):
        return _budgets(settings, connection, calls, day or dt.datetime.now(dt.UTC).date())


def spent(settings: Settings, by: Sequence[str] = ("feature",), since: dt.date | None = None) -> list[dict[str, Any]]:
    """Sums by group, dearest first: calls, failed, tokens_in, tokens_out, cost_usd, reserved_usd (of calls never settled), seconds."""
    from sqlalchemy import case, func, select

    with _reading(settings) as (connection, calls):
        groups = [calls.c[name] for name in by]
        open_usd = case((calls.c.status == RESERVED, calls.c.reserved_usd), else_=0.0)
        query = select(
            *groups,
            func.count().label("calls"),
            func.sum(case((calls.c.status == FAILED, 1), else_=0)).label("failed"),
            func.sum(calls.c.tokens_in).label("tokens_in"),
            func.sum(calls.c.tokens_out).label("tokens_out"),
            func.sum(calls.c.cost_usd).label("cost_usd"),
            func.sum(open_usd).label("reserved_usd"),
            func.sum(calls.c.seconds).label("seconds"),
        ).group_by(*groups)
        if since is not None:
            query = query.where(calls.c.day >= since.isoformat())
        rows = [dict(row._mapping) for row in connection.execute(query)]
    return sorted(rows, key=lambda r: (-r["cost_usd"], *(str(r[name]) for name in by)))


def untraced(settings: Settings, limit: int = 500) -> list[dict[str, Any]]:
    """Calls that are over and whose trace is not known to be sent, oldest first."""
    from sqlalchemy import select

    with _reading(settings) as (connection, calls):
        query = select(calls).where(calls.c.status != RESERVED, calls.c.traced != SENT).order_by(calls.c.at, calls.c.call).limit(limit)
        return [dict(row._mapping) for row in connection.execute(query)]


def mark_traces(settings: Settings, calls_to_mark: Sequence[str], traced: str) -> None:
    """Note where the traces of these calls are: `SENDING` or `SENT`."""
    with _writing(settings) as (connection, calls):
        connection.execute(calls.update().where(calls.c.call.in_(calls_to_mark)).values(traced=traced))


def _budgets(settings: Settings, connection: Connection, calls: Table, day: dt.date) -> list[Budget]:
    from sqlalchemy import case, func, select

    limits = dict(settings.language_model.budgets)
    if settings.language_model.budget_usd_per_day is not None:
        limits[TOTAL] = settings.language_model.budget_usd_per_day
    counted = case((calls.c.status == RESERVED, calls.c.reserved_usd), else_=calls.c.cost_usd)
    query = select(calls.c.feature, func.sum(counted)).where(calls.c.day == day.isoformat()).group_by(calls.c.feature)
    used = {str(feature): float(usd) for feature, usd in connection.execute(query)}
    return [Budget(name, limit, sum(used.values()) if name == TOTAL else used.get(name, 0.0)) for name, limit in sorted(limits.items())]


@lru_cache
def _ledger(url: str) -> tuple[Engine, Table]:
    from sqlalchemy import Column, Float, Integer, MetaData, String, Text, create_engine, event, text
    from sqlalchemy import Table as SqlTable

    sqlite = url.startswith("sqlite")
    engine = create_engine(url, connect_args={"timeout": 60} if sqlite else {}, pool_pre_ping=not sqlite)
    if sqlite:

        @event.listens_for(engine, "connect")
        def _own_transactions(connection: Any, _: Any) -> None:
            # the driver begins transactions late; ours begin with the lock
            connection.isolation_level = None
            connection.execute("PRAGMA journal_mode=WAL")
            connection.execute("PRAGMA synchronous=FULL")

        @event.listens_for(engine, "begin")
        def _locked(connection: Any) -> None:
            immediate = connection.get_execution_options().get("writes", False)
            connection.exec_driver_sql("BEGIN IMMEDIATE" if immediate else "BEGIN")

    metadata = MetaData()
    texts = ("at", "day", "feature", "model", "prompt", "status")
    table = SqlTable(
        "language_model_calls",
        metadata,
        Column("call", String(32), primary_key=True),
        *(Column(name, String(200), nullable=False, index=name in {"day", "status"}) for name in texts),
        *(Column(name, Float, nullable=False) for name in ("reserved_usd", "cost_usd", "seconds")),
        *(Column(name, Integer, nullable=False) for name in ("tokens_in", "tokens_out")),
        Column("request", Text, nullable=False),
        Column("answer", Text, nullable=False),
        Column("traced", String(10), nullable=False),
    )
    with engine.connect().execution_options(writes=True) as connection, connection.begin():
        if not sqlite:
            connection.execute(text(f"SELECT pg_advisory_xact_lock({_LOCK})"))
        metadata.create_all(connection)
    return engine, table


class _Session:
    """A transaction on the ledger; what goes wrong with the database is told in the desk's words."""

    def __init__(self, settings: Settings, *, writes: bool) -> None:
        self.settings, self.writes = settings, writes

    def __enter__(self) -> tuple[Connection, Table]:
        from sqlalchemy import text
        from sqlalchemy.exc import SQLAlchemyError

        try:
            with _OPENING:  # a cache alone would let two threads make the table at once
                engine, table = _ledger(_url(self.settings))
            self.connection = engine.connect().execution_options(writes=self.writes)
            self.transaction = self.connection.begin()
            if self.writes and engine.dialect.name == "postgresql":
                self.connection.execute(text(f"SELECT pg_advisory_xact_lock({_LOCK})"))
        except SQLAlchemyError as error:
            raise self._told(error) from error
        return self.connection, table

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: Any) -> None:
        from sqlalchemy.exc import SQLAlchemyError

        try:
            if kind is None:
                self.transaction.commit()
            else:
                self.transaction.rollback()
        except SQLAlchemyError as problem:
            raise self._told(problem) from problem
        finally:
            self.connection.close()
        if isinstance(error, SQLAlchemyError):
            raise self._told(error) from error

    def _told(self, error: Exception) -> StorageError:
        place = "the desk's Postgres" if self.settings.postgres_url else str(_file(self.settings))
        return StorageError(
            f"the ledger of calls cannot be used: {type(error).__name__}", place=place, remedy="look at the disk and its owner"
        )


def _writing(settings: Settings) -> _Session:
    return _Session(settings, writes=True)


def _reading(settings: Settings) -> _Session:
    return _Session(settings, writes=False)


def _file(settings: Settings) -> Any:
    return settings.state_dir / "language_model" / "calls.db"


def _url(settings: Settings) -> str:
    if settings.postgres_url is not None:
        scheme, _, rest = settings.postgres_url.get_secret_value().partition("://")
        return f"{scheme.split('+')[0]}+psycopg2://{rest}"
    path = _file(settings)
    path.parent.mkdir(parents=True, exist_ok=True)
    return f"sqlite:///{path}"


def all_calls(settings: Settings) -> Iterator[dict[str, Any]]:
    """Every call, oldest first, without its texts."""
    from sqlalchemy import select

    with _reading(settings) as (connection, calls):
        columns = [c for c in calls.c if c.name not in {"request", "answer"}]
        rows = [dict(row._mapping) for row in connection.execute(select(*columns).order_by(calls.c.at, calls.c.call))]
    yield from rows
