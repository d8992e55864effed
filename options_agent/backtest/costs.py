"""What the exchange charged at the time, as arrays: fees of trades and of deliveries by the version in force.

The figures are data: tables in `fees/`, or a user's own by the same format (`fee_table`). How the engine applies them is in
docs/costs.md.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Literal

import numpy as np

from options_agent.backtest.fee_table import FeeVersion, read_schedule

if TYPE_CHECKING:
    import datetime as dt
    from collections.abc import Sequence

    from numpy.typing import NDArray

__all__ = ["FEE_COLUMNS", "FeeVersion", "delivery_fees", "fees_at", "schedule", "trading_fees", "version_at"]

#: Columns of `fees_at`. `combo` is 1 where the combo discount is in force, else 0.
FEE_COLUMNS: Final = ("taker", "maker", "cap", "combo", "perpetual_taker", "perpetual_maker", "liquidation")
_DAY_US: Final = 86_400_000_000


def schedule(name: str) -> tuple[FeeVersion, ...]:
    """A fee schedule by name (`deribit`, `none`) or by the path of a TOML file; versions by day ascending.

    Raises:
        SettingsError: unknown name, unreadable file, or a defect of the table, with the file and the version.
    """
    return read_schedule(name)


def version_at(versions: Sequence[FeeVersion], day: dt.date) -> FeeVersion:
    """The version in force on a day: the latest that is effective; the first where the day is before all."""
    effective = [v for v in versions if v.effective_from <= day]
    return effective[-1] if effective else versions[0]


def fees_at(versions: Sequence[FeeVersion], at_us: NDArray[np.int64], settlement: Literal["coin", "usdc"]) -> NDArray[np.float64]:
    """Fees in force at each time.

    Args:
        versions: by day ascending, as `schedule` returns them.
        at_us: (n,) microseconds UTC.
        settlement: `coin` for inverse options, `usdc` for linear ones.

    Returns:
        (n, 7), columns as `FEE_COLUMNS`. `taker`, `maker`: coin per contract of one coin (`usdc`: share of the index per coin
        of contract), at most `cap` of the option's price. `perpetual_*`: share of the coins traded. `liquidation`: options, coin per
        contract (`usdc`: share of the index), as the exchange states it.
    """
    if settlement == "coin":
        rows = [(v.option_taker, v.option_maker, v.option_cap) for v in versions]
    else:
        rows = [(v.linear_taker, v.linear_maker, v.linear_cap) for v in versions]
    table = np.array(
        [
            (*row, float(v.combo_discount), v.perpetual_taker, v.perpetual_maker, v.option_liquidation)
            for row, v in zip(rows, versions, strict=True)
        ]
    )
    return table[_in_force(versions, at_us)]


def trading_fees(versions: Sequence[FeeVersion], at_us: NDArray[np.int64]) -> NDArray[np.float64]:
    """(n, 2) taker fee (coin per contract) and cap of inverse options in force at each time (microseconds)."""
    return fees_at(versions, at_us, "coin")[:, [0, 2]]


def delivery_fees(
    versions: Sequence[FeeVersion], expiry_us: NDArray[np.int64], settlement: Literal["coin", "usdc"] = "coin"
) -> NDArray[np.float64]:
    """Delivery fees of each expiry; zero for dailies.

    Args:
        versions: by day ascending.
        expiry_us: (n,) microseconds UTC.
        settlement: `coin` for inverse options, `usdc` for linear ones.

    Returns:
        (n, 2) rate and cap: coin per contract of one coin (`usdc`: share of the delivery price per coin), at most cap of the payoff.
    """
    if settlement == "coin":
        rates = [(v.delivery, v.delivery_cap) for v in versions]
    else:
        rates = [(v.linear_delivery, v.linear_delivery_cap) for v in versions]
    # weeklies and all longer ones expire on Fridays (`contracts.expiry_kind`); day 0 was a Thursday
    friday = (expiry_us // _DAY_US + 3) % 7 == 4
    return np.where(friday[:, None], np.array(rates)[_in_force(versions, expiry_us)], 0.0)


def _in_force(versions: Sequence[FeeVersion], at_us: NDArray[np.int64]) -> NDArray[np.int64]:
    """(n,) which version is in force at each time; the first where the time is before all."""
    days = np.array([v.effective_from for v in versions], dtype="datetime64[D]")
    starts = days.astype(np.int64) * _DAY_US
    return np.maximum(np.searchsorted(starts, at_us, side="right") - 1, 0)
