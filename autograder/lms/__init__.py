"""From and to a learning management system (LMS): Moodle's and Canvas's own files."""

from __future__ import annotations

from autograder.lms.collect import Collected, collect_archive
from autograder.lms.export import Exported, export_grades

__all__ = ["Collected", "Exported", "collect_archive", "export_grades"]
