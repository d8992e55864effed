"""Assets, one module per stage. Wiring only: read inputs, call one domain function, attach metadata."""
