"""Source `deribit`: the live exchange, or the box in its place, by web socket and HTTP."""
