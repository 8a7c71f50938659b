"""How much `import vaelib` costs beyond the `import torch` in it.

Measured: seconds of the import statement in a fresh interpreter, `import vaelib` against
`import torch`. Fair: in turn, in rotating order, after one import each that is not counted (it
compiles the byte code and warms the disk cache); ratios are taken within a round.

    python -m benchmarks.import_time
    python -m benchmarks.import_time --quick   # one round, keeps nothing
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from benchmarks.report import Report, interleave, ratios, spread

TIMED = "import time; start = time.perf_counter(); import {}; print(time.perf_counter() - start)"


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="see that it runs: no file")
    quick = parser.parse_args(arguments).quick
    report = Report("import_time", __doc__.split("\n\n")[1])
    runs = {module: partial(import_afresh, module) for module in ("torch", "vaelib")}
    rounds = 1 if quick else 20
    seconds = interleave(runs, rounds)
    ratio = ratios(seconds["vaelib"], by=seconds["torch"])
    rows = [[f"import {module}", spread(times)] for module, times in seconds.items()]
    title = f"Seconds, median (smallest–largest) of {rounds} rounds"
    report.table(title, ["", "seconds"], rows)
    report.in_short("time of import vaelib ÷ import torch", spread(ratio), "≤ 1.2")
    report.close(save=not quick)


def import_afresh(module: str) -> float:
    """Seconds of one import, in an interpreter of its own."""
    root = Path(__file__).parents[1]
    command = [sys.executable, "-c", TIMED.format(module)]
    return float(subprocess.run(command, cwd=root, check=True, capture_output=True).stdout)


if __name__ == "__main__":
    main()
