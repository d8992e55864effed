"""Sensors; each names the alert it raises."""
