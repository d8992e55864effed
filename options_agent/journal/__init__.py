"""Journals: what live (paper) books decided, traded and were worth, one hash-chained line an entry."""
