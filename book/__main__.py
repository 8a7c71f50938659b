"""Build the book into `_build/html`. A warning fails this build, and the next one as well.

Of several builds at once, each waits for the one before it.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

from filelock import FileLock, Timeout

ROOT = Path(__file__).parents[1]


def main() -> int:
    """Build, and return the exit code."""
    build = ROOT / "_build"
    build.mkdir(exist_ok=True)
    lock = FileLock(build / "lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        print("Another build is under way. This one waits for it.", flush=True)
        lock.acquire()
    try:
        return _build(build)
    finally:
        lock.release()


def _build(build: Path) -> int:
    complete = build / "complete"
    # Sphinx reads only changed pages, and would not repeat the warnings of a failed build. Without
    # its notes it reads all pages; executed notebooks stay in their cache.
    if not complete.exists():
        shutil.rmtree(build / ".doctrees", ignore_errors=True)
    complete.unlink(missing_ok=True)
    command = "import sys; from jupyter_book.cli.main import main; sys.exit(main())"
    arguments = ["build", "-W", "--keep-going", str(ROOT)]
    code = subprocess.run([sys.executable, "-c", command, *arguments], cwd=ROOT).returncode
    if code == 0:
        complete.touch()
    return code


if __name__ == "__main__":
    sys.exit(main())
