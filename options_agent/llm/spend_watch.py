"""The alert of budgets: `spend/{budget}` opens at four fifths of a day's budget and closes with the day."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from options_agent.alerts.notify import close_alert, open_alert
from options_agent.llm.spend import budgets

if TYPE_CHECKING:
    import datetime as dt

    from options_agent.settings import Settings

WARN_SHARE: Final = 0.8


def watch_budgets(settings: Settings, day: dt.date | None = None) -> list[str]:
    """Look at every budget of a day (today by default); returns the names of those that are nearly used or used up.

    Raises:
        StorageError: the ledger or the state of alerts cannot be used.
    """
    near = []
    for budget in budgets(settings, day):
        key = f"spend/{budget.name}"
        if budget.limit > 0 and budget.share >= WARN_SHARE:
            title = f"{settings.network}: {budget.share:.0%} of today's language model budget of {budget.name} is used"
            body = f"{budget.used:.4f} of {budget.limit:g} USD; calls that could pass it are not made. `options-agent spend` says who."
            open_alert(key, title, body, "warning", settings)
            near.append(budget.name)
        else:
            room = f"{settings.network}: the language model budget of {budget.name} has room"
            close_alert(key, room, f"{budget.used:.4f} of {budget.limit:g} USD.", settings)
    return near
