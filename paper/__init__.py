"""Every table and figure of the paper as one command: `python -m paper.table8 --corpus synthetic --seeds 3`.

`settings` says what is trained on each corpus, fixed before looking; `jobs` trains, scores and caches; `statistics`
holds the comparisons; `output` writes CSV, Markdown, LaTeX and pictures. A script beside them is a table: which runs,
which numbers of the paper, which claim.
"""
