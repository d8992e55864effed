"""A market worth testing on: seeded, endless, the same wherever one starts to look."""
