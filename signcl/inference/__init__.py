"""Applies trained runs to clips: translate, recognise, extract, align, measure density."""
