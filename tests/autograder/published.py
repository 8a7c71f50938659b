"""What published lists say of cheating graders, and the attacks of this suite that try it.

    python tests/autograder/published.py    # the table, in Markdown

An entry without attacks says why there can be none here.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

__all__ = ["NOT_PUBLISHED", "PUBLISHED", "Entry", "table"]


@dataclass(frozen=True)
class Entry:
    """One way to cheat.

    Attributes:
        source: the list.
        what: is tried.
        attacks: of `attacks.py`, by name, with blanks between.
        reason: why it cannot be tried here, or what else answers it.
    """

    source: str
    what: str
    attacks: str = ""
    reason: str = ""


KRATZKE = "Kratzke 2019, Smart Like a Fox"
MARES = "Mareš 2021, Security of Grading Systems"
TRACE = "TRACE, arXiv 2601.20103"
IMPOSSIBLE = "ImpossibleBench, arXiv 2510.20270"
KERNELS = "KernelGuard, github.com/gpu-mode/kernelguard"
ISOLATE = "isolate, NEWS"
JUDGE0 = "Judge0, CVEs of 2024"
DMOJ = "DMOJ, sandbox cases of judge-server"

PUBLISHED = [
    Entry(KRATZKE, "overfitting: the answers to the inputs that are shown", "overfitted"),
    Entry(
        KRATZKE,
        "evasion: another way than the one that was asked for",
        reason="A check judges values; a test that reads the source can ask for a way "
        "(the style of `inspect.getsource` in styles.py).",
    ),
    Entry(
        KRATZKE,
        "redirection: calling the reference solution that the grader has",
        "grader-from-inside modules-replaced gc-search frames",
    ),
    Entry(
        KRATZKE,
        "injection: writing points into what the grader reads",
        "stdout-forged forged-message display-forged outputs-forged",
    ),
    Entry(
        MARES,
        "reading tests, solutions and what others handed in",
        "reads-gradebook reads-course reads-home history symlink",
    ),
    Entry(
        MARES,
        "other processes: their memory, their files, their end",
        "reads-proc reads-memory ptrace kill-everybody kill-group",
    ),
    Entry(
        MARES,
        "time: more processors than one, and a neighbour's",
        "hog hog-of-children thread-bomb",
    ),
    Entry(
        MARES,
        "stopping the grader: processes, memory, disk, output, time without end",
        "fork-bomb memory-bomb hidden-memory disk-bomb output-bomb errors-without-end endless "
        "endless-and-deaf endless-call",
        "A submission that ends whoever reads it is set aside (test_suspects.py).",
    ),
    Entry(
        MARES,
        "what is left for the next: files, processes, changed programs",
        "survivor writes-everywhere poisons-python",
    ),
    Entry(
        MARES,
        "the compiler: what it includes, and how long it takes",
        "deep-metadata deep-code output-without-end",
        "Nothing is compiled outside of the sandbox. Its place is taken by reading the notebook "
        "(also test_prepare.py and test_drawing.py).",
    ),
    Entry(
        TRACE,
        "test suite exploitation: tests modified, removed or aimed at",
        "rewritten-check unlocked-check deleted-checks duplicated-check renamed-check "
        "retyped-check tag-skip tag-raises overfitted",
    ),
    Entry(
        TRACE,
        "test suite exploitation: points and scores changed",
        "more-points checksums array-for-points",
    ),
    Entry(
        TRACE,
        "solution quality degradation: an answer that only looks like one",
        "not-a-function class-of-another",
        "Beyond that it is for a human to judge.",
    ),
    Entry(
        TRACE,
        "context exploitation: what the environment tells of the tests",
        "history gc-search frames reads-course host-by-descriptors noted-and-printed "
        "noted-and-raised noted-and-left",
    ),
    Entry(
        TRACE,
        "execution environment hacks: the interpreter, its libraries, its hooks",
        "ast-transformer input-transformer cell-hook run-cell-patched builtins-patched "
        "torch-patched modules-replaced excepthook other-kernel changed-setup",
    ),
    Entry(
        IMPOSSIBLE,
        "modifying tests",
        "rewritten-check deleted-checks reordered changed-setup",
    ),
    Entry(
        IMPOSSIBLE,
        "overloading comparison operators",
        "always-equal int-always-equal array-always-equal tensor-always-equal empty-for-points",
    ),
    Entry(
        IMPOSSIBLE,
        "recording extra states, such as the number of the call",
        "by-the-call drawn-until-easy noted-and-printed",
    ),
    Entry(IMPOSSIBLE, "special-casing the inputs of tests", "overfitted"),
    Entry(
        KERNELS,
        "changing the evaluator's variables and arguments through its frames",
        "frames trace-function names-rebound",
    ),
    Entry(
        KERNELS,
        "results that are computed when somebody looks, or kept from an earlier call",
        "always-equal tensor-always-equal by-the-call",
    ),
    Entry(
        KERNELS,
        "replacing the timer, work on other streams and threads",
        reason="No points are given for speed, and the limits are kept by the kernel's clock of "
        "the submission's own processes; a sandbox has no GPU.",
    ),
    Entry(
        ISOLATE,
        "a sandbox that is used again, or by two at once (2.0)",
        "survivor writes-everywhere kill-group",
        "Each submission has a sandbox of its own, which ends with it.",
    ),
    Entry(
        ISOLATE,
        "the wall clock, set anew while a program runs (2.2)",
        reason="Nothing in the sandbox may set it, and times are measured by monotonic clocks.",
    ),
    Entry(
        JUDGE0,
        "CVE-2024-28185, CVE-2024-28189: links out of the sandbox's folder, followed by its owner",
        "symlink",
        "Also test_exchange.py, for links in what is collected.",
    ),
    Entry(JUDGE0, "CVE-2024-29021: the services beside the sandbox", "network"),
    Entry(
        DMOJ,
        "an end by a signal, by its own hand or by a broken pointer",
        "abort segfault os-exit exit exit-in-call",
    ),
    Entry(
        DMOJ,
        "limits of time, memory and output exceeded",
        "endless memory-bomb output-bomb huge-result",
    ),
    Entry(
        DMOJ,
        "system calls that a solution has no use for",
        "ptrace network fork-bomb host-by-descriptors",
    ),
]

NOT_PUBLISHED = {
    "script-in-output": "of the instructor's browser; see html_attacks.py",
    "exception-in-place": "of checks that call a function",
    "base-exception": "of checks that call a function",
    "generator-exit": "of checks that call a function",
    "keyboard-interrupt": "of checks that call a function",
    "socket-answers": "of this grader's channels",
    "socket-endless": "of this grader's channels",
    "pickle": "of this grader's channels",
    "deep-result": "of this grader's channels",
}
"""Attacks of this suite that no list names, and what they are of."""


def table() -> Iterator[str]:
    """The lines of a Markdown table."""
    yield "| list | what is tried | attacks | else |"
    yield "| --- | --- | --- | --- |"
    for entry in PUBLISHED:
        attacks = ", ".join(entry.attacks.split())
        yield f"| {entry.source} | {entry.what} | {attacks} | {entry.reason} |"


if __name__ == "__main__":
    print(*table(), sep="\n")
