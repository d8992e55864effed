"""Which rule an alert falls under, and when and where it is told: pure functions of the settings and the time."""

from __future__ import annotations

import datetime as dt
import tomllib
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Final
from zoneinfo import ZoneInfo

from pydantic import ValidationError

from options_agent.alerts.channels import channels_of
from options_agent.errors import SettingsError
from options_agent.settings import AlertRule, AlertSettings

if TYPE_CHECKING:
    from options_agent.alerts.channels import Channel
    from options_agent.settings import Settings, Severity

RANK: Final[dict[str, int]] = {"info": 0, "warning": 1, "failure": 2}
_EVERYTHING: Final = AlertRule()


@dataclass(frozen=True, slots=True)
class RuleBook:
    """The rules in force, and the channels by the names rules use (`file`, those of `routes`, and an id per apprise URL of `urls`)."""

    rules: tuple[AlertRule, ...]
    channels: dict[str, Channel]

    def rule_for(self, key: str) -> AlertRule:
        """The first rule that fits; without one, everything goes everywhere at once."""
        return next((rule for rule in self.rules if fnmatchcase(key, rule.what)), _EVERYTHING)

    def routes_of(self, rule: AlertRule) -> list[str]:
        """Names of the routes a rule tells."""
        return [name for name in (rule.routes if rule.routes is not None else self.channels) if name in self.channels]


def rule_book(settings: Settings) -> RuleBook:
    """The rules and channels of the settings, or of their `rules_file`.

    Raises:
        SettingsError: the file cannot be read, or is no rule book.
    """
    alerts = alert_settings(settings)
    return RuleBook(alerts.rules, {channel.id: channel for channel in channels_of(settings, alerts)})


def alert_settings(settings: Settings) -> AlertSettings:
    """The settings of alerts with what `rules_file` says in place of theirs. Raises SettingsError as `rule_book`."""
    alerts = settings.alerts
    if alerts.rules_file is None:
        return alerts
    remedy = "see docs/alerts.md for a complete example; `options-agent alerts check` tries it"
    try:
        document = tomllib.loads(alerts.rules_file.read_text(encoding="utf-8"))
        if unknown := sorted(set(document) - {"routes", "rules"}):
            raise SettingsError(f"unknown tables {unknown}", place=str(alerts.rules_file), remedy=remedy)
        return AlertSettings(**{**alerts.model_dump(exclude={"routes", "rules", "rules_file"}), **document})
    except OSError as error:
        raise SettingsError(f"the rules of alerts cannot be read: {error.strerror}", place=str(alerts.rules_file), remedy=remedy) from None
    except tomllib.TOMLDecodeError as error:
        raise SettingsError(f"not TOML: {error}", place=str(alerts.rules_file), remedy=remedy) from None
    except ValidationError as error:
        problems = "; ".join(f"{'.'.join(map(str, e['loc'])) or 'rules'}: {e['msg']}" for e in error.errors(include_input=False))
        raise SettingsError(f"the rules of alerts are not usable: {problems}", place=str(alerts.rules_file), remedy=remedy) from None


def due_at(rule: AlertRule, severity: Severity, now: dt.datetime) -> dt.datetime:
    """When a notice of this severity may be told: `now`, later by the group's wait, or the end of quiet hours."""
    due = now + dt.timedelta(seconds=rule.group_seconds)
    if rule.quiet is None or RANK[severity] >= RANK[rule.through]:
        return due
    return max(due, quiet_until(rule, now) or quiet_until(rule, due) or now)


def quiet_until(rule: AlertRule, now: dt.datetime) -> dt.datetime | None:
    """The end of the quiet hours `now` lies in; None outside them. By the clock of the rule's zone, summer time included."""
    if rule.quiet is None:
        return None
    zone = ZoneInfo(rule.time_zone)
    begin, end = (dt.time.fromisoformat(text) for text in rule.quiet.split("-"))
    local = now.astimezone(zone)
    for day in (local.date() - dt.timedelta(days=1), local.date()):
        first = dt.datetime.combine(day, begin, zone)
        last = dt.datetime.combine(day if end > begin else day + dt.timedelta(days=1), end, zone)
        if first <= local < last:
            return last.astimezone(dt.UTC)
    return None
