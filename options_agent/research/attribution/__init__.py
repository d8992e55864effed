"""Where P&L came from: every trade and book split into greeks, costs, funding and settlement, summing to the ledger; and its factors."""
