"""JupyterHub for one course, with ngshare as the exchange; the instructor guide leads through it.

JupyterHub and ngshare run in an environment of their own (`requirements.txt`). Accounts are the
machine's; for others, add another authenticator and spawner.
"""

import os
import sys
from pathlib import Path

COURSE = Path("/srv/vae")  # with nbgrader_config.py and .venv; students may not read it
STUDENTS = Path("/srv/students")  # the environment in which students' notebooks run
STATE = Path("/srv/hub")  # what JupyterHub and ngshare keep; only root may read it
INSTRUCTORS = ["ines"]

c = get_config()  # noqa: F821, JupyterHub puts it here

c.JupyterHub.db_url = f"sqlite:///{STATE}/jupyterhub.sqlite"
c.JupyterHub.cookie_secret_file = str(STATE / "cookie-secret")
c.ConfigurableHTTPProxy.pid_file = str(STATE / "proxy.pid")
c.Authenticator.allow_all = True
c.Spawner.default_url = "/lab"


def choose(spawner):
    """Instructors work in the course's folder, with formgrader; students in their homes."""
    instructs = spawner.user.name in INSTRUCTORS
    prefix = COURSE / ".venv" if instructs else STUDENTS
    spawner.cmd = [str(prefix / "bin/jupyterhub-singleuser")]
    path = f"{prefix / 'bin'}:{os.environ['PATH']}"
    spawner.environment = {**spawner.environment, "PATH": path}
    if instructs:
        spawner.notebook_dir = str(COURSE)


c.Spawner.pre_spawn_hook = choose

ngshare = [sys.executable, "-m", "ngshare", "--admins", ",".join(INSTRUCTORS)]
ngshare += ["--database", f"sqlite:///{STATE}/ngshare.db", "--storage", str(STATE / "files")]
c.JupyterHub.services = [
    {"name": "ngshare", "url": "http://127.0.0.1:10101", "command": ngshare, "cwd": str(STATE)}
]
