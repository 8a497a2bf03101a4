"""Data: samples and batches, the loader, and readers of video, text, features, poses, annotation and corpora.

Import from the modules: `signcl.data.batch` (the legend of shapes), `signcl.data.loading`, `signcl.data.corpora` ...
"""
