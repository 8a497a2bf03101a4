"""Seeded mutation of every reader: `python -m tests.fuzz --help`. `worker` defines what counts as a fault."""
