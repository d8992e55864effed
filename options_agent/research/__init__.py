"""Experiments and what they taught: tracking, splits, multiple testing, attribution."""
