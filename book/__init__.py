"""Sphinx extensions for what Jupyter Book does not do, one job each.

`python -m book` builds the book into `_build/html`.
"""
