"""The grader's command line: `python -m autograder`.

Exit codes:
  0    all is done; a submission that ended with a named reason is done, too
  1    some results could not be recorded, some submissions were not taken in, some grades were not
       exported, or `doctor` found something missing
  2    the command line is wrong
  3    nothing can be graded here
  4    another run is grading this course
  130  interrupted
"""

from __future__ import annotations

import argparse
import contextlib
import errno
import itertools
import os
import signal
import sys
from concurrent.futures import Executor
from datetime import datetime
from pathlib import Path

if __name__ == "__main__" and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # no traceback while the rest is imported

from sqlalchemy.exc import SQLAlchemyError
from traitlets import TraitError

from autograder.atomic import write
from autograder.cluster import executor, workers
from autograder.course import Busy, Course, CourseError, database_said
from autograder.doctor import findings
from autograder.grade import grade, judged
from autograder.lms import collect_archive, export_grades
from autograder.page import write_page
from autograder.report import collect, explain, points_by_check, printable, table
from autograder.similar import listed, similar, write_similar
from autograder.watch import Watch

__all__ = ["main"]


def _arguments(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m autograder",
        description="Grades nbgrader submissions, isolated and in parallel.",
        epilog=(__doc__ or "").partition("\n\n")[2],
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(dest="command", required=True)

    def command(name: str, help: str) -> argparse.ArgumentParser:
        made = commands.add_parser(name, help=help, description=help)
        made.add_argument(
            "--course",
            type=Path,
            default=Path(),
            metavar="DIR",
            help="the folder with nbgrader_config.py (default: this one)",
        )
        return made

    grading = command("grade", "Grade every submission of an assignment that is new or changed.")
    grading.add_argument("assignment")
    grading.add_argument(
        "--student",
        action="append",
        metavar="NAME",
        help="whose submission alone; can be given more than once",
    )
    grading.add_argument(
        "--jobs",
        type=_positive,
        metavar="N",
        help="how many submissions run at once (default: one per core)",
    )
    grading.add_argument("--dask", metavar="ADDRESS", help="run on a Dask cluster: tls://…")
    grading.add_argument("--force", action="store_true", help="run again what did not change, too")
    grading.add_argument(
        "--dry-run", action="store_true", help="show what would change, record nothing"
    )
    grading.add_argument(
        "--no-sandbox",
        action="store_true",
        help="run without a sandbox: submissions can then read and change what you can",
    )
    watching = command(
        "watch",
        "Grade what arrives in nbgrader's exchange, and give feedback back, until interrupted.",
    )
    watching.add_argument("assignment")
    watching.add_argument(
        "--once", action="store_true", help="look once, and end: for cron, for example"
    )
    reporting = command("report", "Print a class's table, and write its report in HTML.")
    reporting.add_argument("assignment")
    reporting.add_argument(
        "--csv", type=Path, metavar="FILE", help="also write each student's points for each check"
    )
    explaining = command("explain", "Tell how a student's grade came about.")
    explaining.add_argument("student")
    explaining.add_argument("assignment")
    comparing = command("similar", "List similar answers, and write a page that shows them.")
    comparing.add_argument("assignment")
    collecting = command("collect", "Take in an archive of submissions from Moodle or Canvas.")
    collecting.add_argument("assignment")
    collecting.add_argument("archive", type=Path, help="the zip file, as it came from the LMS")
    collecting.add_argument(
        "--roster", type=Path, metavar="FILE", help="a CSV file of the LMS that says who is who"
    )
    collecting.add_argument(
        "--force", action="store_true", help="replace what is there already and differs"
    )
    collecting.add_argument(
        "--dry-run", action="store_true", help="show what would be placed, write nothing"
    )
    exporting = command("export", "Fill in the grades in a CSV file of Moodle or Canvas.")
    exporting.add_argument("assignment")
    exporting.add_argument(
        "--csv",
        type=Path,
        required=True,
        metavar="FILE",
        help="Canvas's gradebook or Moodle's grading worksheet; a copy of it is written",
    )
    exporting.add_argument(
        "--column", metavar="NAME", help="the column, if Canvas's name is not the assignment's"
    )
    exporting.add_argument(
        "--feedback", type=Path, metavar="ZIP", help="pack the feedback, for the LMS to take back"
    )
    examining = command("doctor", "Tell what this machine and this course lack.")
    examining.add_argument(
        "assignment", nargs="?", help="also run its solution, and tell where each check is judged"
    )
    examining.add_argument(
        "--dask", metavar="ADDRESS", help="also tell what each worker of a Dask cluster lacks"
    )
    return parser.parse_args(arguments)


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"has to be 1 or more, not {text!r}")
    return int(text)


# What the machine refuses: no space, no right to write or read, a disk that fails.
_NOT_OURS = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM, errno.EIO}


def main(arguments: list[str] | None = None) -> int:
    """Runs a command, and returns its exit code."""
    options = _arguments(arguments)
    try:
        code = _COMMANDS[options.command](options)
        sys.stdout.flush()  # else a closed pipe would show at the very end only
        return code
    except Busy as error:
        code, told = 4, str(error)
    except CourseError as error:
        code, told = 3, str(error)
    except SQLAlchemyError as error:
        code, told = 3, f"the gradebook cannot be used: {database_said(error)}"
    except ModuleNotFoundError as error:
        code, told = 3, f"a package is missing here: {error.name}"
    except TraitError as error:
        code, told = 3, f"a setting in nbgrader_config.py is wrong: {error}"
    except BrokenPipeError:  # whoever read the table has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as error:
        if error.errno not in _NOT_OURS:
            raise
        where = error.filename or options.course.resolve()
        code, told = 3, f"{error.strerror}: {where}; what was recorded stays, the next run goes on"
    except KeyboardInterrupt:
        code, told = 130, "interrupted; what was recorded stays, the next run goes on"
    print(told, file=sys.stderr)
    return code


def _grade(options: argparse.Namespace) -> int:
    course = Course.at(options.course)
    with contextlib.ExitStack() as stack:
        dask: Executor | None = None
        if options.dask is not None:
            dask = stack.enter_context(executor(options.dask, not options.no_sandbox, _tell))
        summary = grade(
            course,
            options.assignment,
            students=options.student,
            executor=dask,
            workers=options.jobs,
            isolated=not options.no_sandbox,
            force=options.force,
            dry_run=options.dry_run,
            tell=_tell,
        )
    if options.dry_run:
        for student, before, after in summary.changes:
            old = "nothing" if before is None else f"{before:g}"
            print(f"{student}: {old} -> {after:g}")
        print(f"{len(summary.changes)} grades would change; nothing was recorded.")
    else:
        print(table(collect(course, options.assignment)))
        print(
            f"{len(summary.graded)} graded, {len(summary.unchanged)} unchanged, "
            f"{summary.executed} notebooks run."
        )
    for student, why in summary.failed.items():
        print(f"{student}: not recorded: {why}", file=sys.stderr)
    return 1 if summary.failed else 0


def _tell(line: str) -> None:
    print(line, file=sys.stderr)


def _watch(options: argparse.Namespace) -> int:
    def tell(line: object) -> None:
        print(printable(f"{datetime.now():%H:%M:%S}  {line}"), flush=True)

    watch = Watch(Course.at(options.course), options.assignment, tell)
    if options.once:
        look = watch.look()
        tell(look)
        if look.error:
            raise look.error
        return 1 if watch.failing else 0
    tell(f"watching {options.assignment} in {watch.course.root}; Ctrl-C ends it")
    for look in watch.run():
        tell(look)
    return 0


def _report(options: argparse.Namespace) -> int:
    course = Course.at(options.course)
    report = collect(course, options.assignment)
    print(table(report))
    print(write_page(course, report))
    if options.csv is not None:
        try:
            write(options.csv, points_by_check(report).encode("utf-8-sig"))
        except OSError as error:
            raise CourseError(f"{options.csv} cannot be written: {error.strerror}") from error
        print(options.csv)
    return 0


def _explain(options: argparse.Namespace) -> int:
    report = collect(Course.at(options.course), options.assignment)
    try:
        print(explain(report, options.student))
    except KeyError:
        raise CourseError(
            f"{options.student!r} has no graded submission of {options.assignment!r}"
        ) from None
    return 0


def _similar(options: argparse.Namespace) -> int:
    course = Course.at(options.course)
    report = similar(course, options.assignment)
    print(listed(report))
    print(write_similar(course, report))
    return 0


def _collect(options: argparse.Namespace) -> int:
    collected = collect_archive(
        Course.at(options.course),
        options.assignment,
        options.archive,
        roster=options.roster,
        force=options.force,
        dry_run=options.dry_run,
    )
    for line in collected.told:
        print(line)
    print(
        f"{len(collected.placed)} placed, {len(collected.unchanged)} unchanged, "
        f"{len(collected.kept)} kept as they were, {len(collected.left_out)} left out"
        f"{'; nothing was written' if options.dry_run else ''}."
    )
    return 1 if collected.kept or collected.left_out else 0


def _export(options: argparse.Namespace) -> int:
    exported = export_grades(
        Course.at(options.course),
        options.assignment,
        options.csv,
        column=options.column,
        feedback=options.feedback,
    )
    for line in exported.told:
        print(line)
    print(f"{len(exported.filled)} grades are in {exported.csv}.")
    return 1 if exported.without else 0


def _doctor(options: argparse.Namespace) -> int:
    good = True
    at_workers = workers(options.dask) if options.dask is not None else ()
    for what, lacks in itertools.chain(findings(options.course), at_workers):
        print(f"{'ok   ' if lacks is None else 'LACKS'}  {what}{f': {lacks}' if lacks else ''}")
        good &= lacks is None
    if options.assignment is not None:
        for line, fits in judged(Course.at(options.course), options.assignment):
            print(line)
            good &= fits
    return 0 if good else 1


_COMMANDS = {
    "grade": _grade,
    "watch": _watch,
    "report": _report,
    "explain": _explain,
    "similar": _similar,
    "collect": _collect,
    "export": _export,
    "doctor": _doctor,
}

if __name__ == "__main__":
    if signal.getsignal(signal.SIGINT) is signal.SIG_DFL:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    sys.exit(main())
