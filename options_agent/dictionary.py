"""The data dictionary as Markdown, made from the schemas so that it cannot drift from them."""

from __future__ import annotations

from options_agent.quotes import COMPUTED_FIELDS, FIELDS, SCHEMA_VERSION, VERDICT_FIELDS, Field
from options_agent.series import SERIES


def data_dictionary() -> str:
    """Every table of the lake with its columns, types, units and the meaning of null."""
    parts = [
        "# Data dictionary",
        "",
        (
            f"Made from `options_agent.quotes` and `options_agent.series` (schema version {SCHEMA_VERSION}) by "
            "`python -m options_agent.dictionary`; a test keeps it true. Times are UTC, microseconds."
        ),
        "",
        "## Quotes (`raw`, `clean`, `quarantine`)",
        "",
        "One row per instrument per snapshot, sorted by ts, expiry, strike, right.",
        "",
        _table(FIELDS),
        "",
        "Clean rows carry besides:",
        "",
        _table(COMPUTED_FIELDS),
        "",
        "Quarantined rows carry besides:",
        "",
        _table(VERDICT_FIELDS),
    ]
    for name, schema in SERIES.items():
        columns = [f"| `{c.name}` | {c.type} | {'may be null' if c.nullable else 'never null'} |" for c in schema]
        parts += ["", f"## Series `{name}`", "", "| column | type | null |", "|---|---|---|", *columns]
    return "\n".join(parts) + "\n"


def _table(fields: tuple[Field, ...]) -> str:
    rows = [f"| `{f.name}` | {f.type} | {f.unit} | {f.meaning} | {f.null_means if f.nullable else 'never'} |" for f in fields]
    return "\n".join(["| column | type | unit | meaning | null means |", "|---|---|---|---|---|", *rows])


if __name__ == "__main__":
    print(data_dictionary(), end="")  # noqa: T201 the module's one job on the terminal
