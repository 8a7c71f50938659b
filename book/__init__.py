"""The steps of the book's build that Jupyter Book does not bring: Sphinx extensions, one job each.

`python -m book` builds the book into `_build/html`.
"""
