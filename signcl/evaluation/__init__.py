"""Evaluation of runs: scores of a split, grids of beams, comparison of runs, probes."""
