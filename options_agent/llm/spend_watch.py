"""The alert of budgets: `spend/{budget}` opens at four fifths of a day's budget and closes with the day."""

from __future__ import annotations

import datetime as dt
import logging
from typing import TYPE_CHECKING, Final

from options_agent.alerts.notify import close_alert, open_alert
from options_agent.errors import OptionsAgentError
from options_agent.llm.spend import Budget, budgets

if TYPE_CHECKING:
    from options_agent.settings import Settings

WARN_SHARE: Final = 0.8
log = logging.getLogger("options_agent.llm")
#: Budgets this process told of: home, network, day and name.
_TOLD: Final[set[tuple[str, str, dt.date, str]]] = set()


def watch_budgets(settings: Settings, day: dt.date | None = None) -> list[str]:
    """Look at every budget of a day (today by default); returns the names of those that are nearly used or used up.

    Raises:
        StorageError: the ledger or the state of alerts cannot be used.
    """
    near = []
    for budget in budgets(settings, day):
        key = f"spend/{budget.name}"
        if _is_near(budget):
            title = f"{settings.network}: {budget.share:.0%} of today's language model budget of {budget.name} is used"
            body = f"{budget.used:.4f} of {budget.limit:g} USD; calls that could pass it are not made. `options-agent spend` says who."
            open_alert(key, title, body, "warning", settings)
            near.append(budget.name)
        else:
            room = f"{settings.network}: the language model budget of {budget.name} has room"
            close_alert(key, room, f"{budget.used:.4f} of {budget.limit:g} USD.", settings)
    return near


def warn_once(settings: Settings) -> None:
    """Open the alert with the call that takes a budget there, once a process and day.

    What is wrong with the alerts does not undo a call that was made: it is logged, and the hourly look tells again.
    """
    chosen = settings.language_model
    if not chosen.budgets and chosen.budget_usd_per_day is None:
        return
    day = dt.datetime.now(dt.UTC).date()
    try:
        near = {(str(settings.home), settings.network, day, b.name) for b in budgets(settings, day) if _is_near(b)}
        if not near <= _TOLD:
            watch_budgets(settings, day)
            _TOLD.update(near)
    except OptionsAgentError as error:
        log.warning("the alert of a budget waits for the next look: %s", error)


def _is_near(budget: Budget) -> bool:
    return budget.limit > 0 and budget.share >= WARN_SHARE
