"""Options Agent: a research and trading desk for crypto options on Deribit.

Read in the order of a quote's way: `contracts`, `quotes`, `market`, `lake`, `quality`, `regimes`,
`strategies`, `backtest`, `research`, `llm`. Nothing here imports the orchestrator.
"""

__version__ = "0.1.0"
