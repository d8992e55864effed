"""The vendor on loopback."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.servers.tardis import Vendor, vendor

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def tardis() -> Iterator[Vendor]:
    """A vendor without files."""
    with vendor() as running:
        yield running
