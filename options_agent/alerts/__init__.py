"""Alerts: said once when something opens, not while it stays, once when it closes; kept through restarts."""

from options_agent.alerts.notify import Delivery, close_alert, deliver_pending, is_open, open_alert, send, tick

__all__ = ["Delivery", "close_alert", "deliver_pending", "is_open", "open_alert", "send", "tick"]
