"""What is believed of the quotes: rules, verdicts, quarantine, gaps and freshness."""
