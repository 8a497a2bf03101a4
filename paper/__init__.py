"""Reproduces every table and figure of the paper with one command each: `python -m paper.table8 --corpus synthetic`.

`settings` defines the training on each corpus; it was fixed before any result. `jobs` trains, scores and caches.
`statistics` compares results. `output` writes CSV, Markdown, LaTeX and pictures. Each other script makes one table or
figure: it lists the runs, the paper's numbers and the claims.
"""
