"""nbgrader's settings: the assignments' sources are in solutions/, and grading is isolated."""

import sys
from pathlib import Path

ROOT = Path(__file__).parent
sys.path.insert(0, str(ROOT))  # so that nbgrader, started anywhere, finds the grader

import autograder  # noqa: E402

c = get_config()  # noqa: F821, nbgrader puts it here

c.CourseDirectory.course_id = "vae"
c.CourseDirectory.root = str(ROOT)  # so that nbgrader works from any folder
c.CourseDirectory.source_directory = "solutions"

EXERCISES = [
    *(f"vae_exercises.{name}" for name in ("autoencoders", "latent_variables", "elbo", "kl")),
    *(f"vae_exercises.{name}" for name in ("reparameterization", "training", "generation")),
    "vae_exercises.evaluation",
]
# What notebooks import; loaded once for the whole class.
c.Isolated.imports = ["matplotlib.pyplot", "torch", "torch.distributions", "vaelib"]
c.Isolated.imports += ["vae_exercises", *EXERCISES, "vae_exercises.rehearsal"]
# What students write themselves: of vaelib, their cells have the data and the plots.
c.Isolated.withheld = [
    *(f"vaelib.{name}" for name in ("autoencoder", "elbo", "evaluation", "generation", "kl")),
    *(f"vaelib.{name}" for name in ("latent_variable", "likelihood", "networks")),
    *(f"vaelib.{name}" for name in ("reparameterization", "residual", "training", "vae")),
    *(f"vaelib.{name}" for name in ("compiled", "flow", "objective", "validation")),
    *EXERCISES,
    *(f"vae_exercises.{name}" for name in ("assignment", "mistakes", "rehearsal", "task")),
]
# Every check is judged where no student's code can reach it.
c.Isolated.mode = "outside"

autograder.install(c)
