"""Seeded mutation of every reader: `python -m tests.fuzz --help`. What a fault is, stands in `worker`."""
