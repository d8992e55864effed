"""Jobs over the assets, and when they run."""
