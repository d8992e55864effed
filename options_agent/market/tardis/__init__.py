"""History from a vendor of recorded ticks: fetched a day at a time, thinned to the grid while it streams."""
