"""The desk as one resource: settings read when a step starts, clients opened where used."""

from __future__ import annotations

from typing import TYPE_CHECKING

import dagster as dg

if TYPE_CHECKING:
    from options_agent.lake.archive import Archive
    from options_agent.lake.store import Lake
    from options_agent.market.sources import Source
    from options_agent.settings import Settings


class Desk(dg.ConfigurableResource["Desk"]):
    """Lake, archive and source of the settings in force (environment and `.env`, variables `OPTIONS_AGENT_...`)."""

    def settings(self) -> Settings:
        """The settings."""
        from options_agent.settings import load_settings

        return load_settings()

    def lake(self) -> Lake:
        """The lake of the settings' network."""
        from options_agent.lake.store import open_lake

        return open_lake(self.settings())

    def archive(self) -> Archive:
        """The archive of the settings' network."""
        from options_agent.lake.archive import open_archive

        return open_archive(self.settings())

    def source(self) -> Source:
        """The configured source of quotes."""
        from options_agent.market.sources import open_source

        return open_source(self.settings())
