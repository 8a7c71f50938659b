"""Execute notebooks in parallel, and again whenever the library that they use has changed.

myst-nb's cache identifies a notebook by its cells alone. Here the cache's folder is named by a hash
of `vaelib` and the pinned versions, so that a change in them starts a new cache.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from jupyter_cache import get_cache
from jupyter_cache.base import CacheBundleIn
from jupyter_cache.executors.utils import ExecutionResult, single_nb_execution
from myst_nb.core.read import read_myst_markdown_notebook
from nbformat import NotebookNode
from sphinx.application import Sphinx
from sphinx.config import Config
from sphinx.environment import BuildEnvironment
from sphinx.util import logging
from traitlets.config import Config as TraitletsConfig

logger = logging.getLogger(__name__)

# One thread per notebook: there are as many notebooks at once as processors, and outputs do not
# depend on the number of processors. Figures go into the page, whatever the caller's backend is.
ENVIRONMENT = {
    "OMP_NUM_THREADS": "1",
    "MPLBACKEND": "module://matplotlib_inline.backend_inline",
}
# Each figure twice: the page shows the SVG, and the notebook that readers download has the PNG,
# which JupyterLab shows also in a notebook that it does not trust.
FIGURES = [f"--InlineBackend.figure_formats={kind}" for kind in ("svg", "png")]
EXECUTED_WITH = (
    "vaelib/**/*.py",
    "vaelib/explorer.*",
    "vaelib/weights/*",
    "book/claims.py",
    "book/execution.py",
    "requirements.txt",
    "constraints.txt",
)
READ_WITH = ("book/*.py", "book/*.yml", "book/static/book.css")


def fingerprint(root: Path, patterns: tuple[str, ...]) -> str:
    """A hash of the names and the contents of the files that match."""
    digest = hashlib.sha256()
    for path in sorted({path for pattern in patterns for path in root.glob(pattern)}):
        name, content = str(path.relative_to(root)).encode(), path.read_bytes()
        digest.update(b"%d %s %d %s" % (len(name), name, len(content), content))
    return digest.hexdigest()[:16]


def choose_cache(app: Sphinx, config: Config) -> None:
    """Name the cache after the library, and remove older caches."""
    caches = Path(app.outdir).parent / "executed"
    cache = caches / fingerprint(Path(app.srcdir), EXECUTED_WITH)
    for other in caches.glob("*"):
        if other != cache:
            shutil.rmtree(other)
    config.nb_execution_cache_path = str(cache)
    # A changed setting makes Sphinx read every page again, but a changed extension does not.
    seed = os.environ.get("BOOK_SEED", "0")
    config.book_read_with = fingerprint(Path(app.srcdir), READ_WITH) + seed


def read_notebook(env: BuildEnvironment, docname: str) -> NotebookNode | None:
    """The cells of a page, as myst-nb reads them; None for a page without code."""
    content = [Path(env.doc2path(docname)).read_text("utf-8")]
    if "{code-cell}" not in content[0]:
        return None
    env.app.emit("source-read", docname, content)  # apply other extensions, as Sphinx does
    return read_myst_markdown_notebook(content[0], config=env.myst_config)


def execute(app: Sphinx, env: BuildEnvironment, docnames: list[str]) -> None:
    """Execute the notebooks that myst-nb is about to read and that are not in its cache.

    A notebook that fails is left to myst-nb, which runs it again and reports where it failed.
    """
    cache = get_cache(app.config.nb_execution_cache_path)
    cached = {record.hashkey for record in cache.list_cache_records()}
    notebooks = {docname: read_notebook(env, docname) for docname in docnames}
    todo = {
        docname: notebook
        for docname, notebook in notebooks.items()
        if notebook and cache.create_hashed_notebook(notebook)[1] not in cached
    }

    def run(docname: str) -> ExecutionResult:
        with tempfile.TemporaryDirectory() as folder:
            # By files, not ports, so that nobody else can listen, and no kernel warns of that.
            files = {"KernelManager": {"transport": "ipc", "ip": f"{folder}/kernel"}}
            return single_nb_execution(
                todo[docname],
                folder,
                app.config.nb_execution_timeout,
                allow_errors=False,
                config=TraitletsConfig(files),
                extra_arguments=FIGURES,
            )

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for docname, result in zip(todo, pool.map(run, todo), strict=True):
            if result.err is None:
                logger.info("executed %s in %.0f s", docname, result.time)
                data = {"execution_seconds": result.time}
                bundle = CacheBundleIn(result.nb, env.doc2path(docname), data=data)
                cache.cache_notebook_bundle(bundle, check_validity=False, overwrite=True)


def setup(app: Sphinx) -> dict[str, Any]:
    """Register the extension."""
    os.environ.update(ENVIRONMENT)
    # Chapters import claims from `book`, which is not installed.
    os.environ["PYTHONPATH"] = str(app.srcdir)
    app.add_config_value("book_read_with", "", "env", str)
    app.connect("config-inited", choose_cache)
    app.connect("env-before-read-docs", execute)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
