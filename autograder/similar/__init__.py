"""Similar work: which answers of a class resemble each other, for an instructor to look at."""

from autograder.similar.compare import Similar, similar
from autograder.similar.shown import listed, write_similar

__all__ = ["Similar", "listed", "similar", "write_similar"]
