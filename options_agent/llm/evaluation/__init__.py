"""Models judged on the same held-out decisions: validity, regret, agreement, cost, and P&L when played; and the gate to promotion."""
