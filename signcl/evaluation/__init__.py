"""How good a run is: scores of a split, grids of beams, comparison of runs, probes."""
