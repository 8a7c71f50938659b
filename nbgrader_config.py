"""nbgrader's settings: the assignments' sources are in solutions/."""

from pathlib import Path

c = get_config()  # noqa: F821, nbgrader puts it here

c.CourseDirectory.course_id = "vae"
c.CourseDirectory.root = str(Path(__file__).parent)  # so that nbgrader works from any folder
c.CourseDirectory.source_directory = "solutions"
