"""Has nbgrader record a submission in one transaction.

nbgrader opens the gradebook nine times a submission, each time by an engine of its own, for which
SQLAlchemy compiles every statement anew, and commits some 25 times, each of which waits for the
disk. One session and one commit do the same, and leave no submission half recorded.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

from nbgrader.api import Gradebook
from sqlalchemy import Engine
from sqlalchemy.orm import Session

__all__ = ["one_transaction"]


class _Session(Session):
    """What `Gradebook.db` is within a transaction: a commit writes, and is not yet one."""

    def commit(self) -> None:
        """Writes what has changed; whoever reads it next sees what the database has."""
        self.flush()
        self.expire_all()

    def remove(self) -> None:
        """What closing a gradebook asks of its session."""
        self.commit()


@contextlib.contextmanager
def one_transaction(url: str, engine: Engine, *, keep: bool = True) -> Iterator[None]:
    """Lets every `Gradebook` of an address use one session; its end commits or rolls back.

    Args:
        url: of a gradebook whose tables are there.
        engine: for it.
        keep: whether to commit; after an error all is rolled back.
    """
    open_, close = Gradebook.__init__, Gradebook.close
    session = _Session(engine)

    def opened(
        self: Any, db_url: str, course_id: str = "default_course", authenticator: Any = None
    ) -> None:
        if db_url != url:
            open_(self, db_url, course_id, authenticator)
            return
        self.engine, self.db = engine, session
        self.course_id, self.authenticator = course_id, authenticator
        self.check_course(course_id=course_id)

    def closed(self: Any) -> None:
        if self.db is session:
            session.remove()
        else:
            close(self)

    Gradebook.__init__, Gradebook.close = opened, closed
    try:
        with session:  # which rolls back what is not committed
            yield
            if keep:
                Session.commit(session)
    finally:
        Gradebook.__init__, Gradebook.close = open_, close
