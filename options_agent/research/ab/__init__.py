"""Live comparison: books side by side on one market, judged day by day by intervals that stay valid however often one looks."""
