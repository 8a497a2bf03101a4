"""Layers that several systems share, and search in what they say."""
