"""What a GPU says: is the captured step used, is it right, and how fast is it?

Measured, in parts that each have a time of their own: `fit` with its step captured as a CUDA graph
against the same run without graphs (parameters, replay by seed, resumption; models that cannot be
captured); examples per second of 784-512-2-512-784 and of convolutional VAEs, beside PyTorch's
example, pythae, a plain loop with resident data, a whole step captured by hand, and the matrix
products alone; `log_likelihood` with 5,000 samples against the way image by image; the CUDA tests.

Fair: loops written by hand check nothing and are in the same precision (loops.py); peers as their
users have them. Each round runs everybody, an epoch that does not count and then three that do;
ratios are taken within a round.

    python -m benchmarks.gpu                          # 8 minutes at most; keeps a results file
    python -m benchmarks.gpu --folder $OUT            # keeps it there
    python -m benchmarks.gpu --parts training tests   # some of the parts
    python -m benchmarks.gpu --device cpu --quick     # does it run? Keeps nothing

It needs torch and numpy, and nothing from a network; pytest for the tests. Where pythae is missing
its rows are. Full MNIST is read from `VAELIB_DATA`, or from shared/data in or beside this folder;
without it the digits that come with vaelib are repeated, and without those the images are noise.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from pathlib import Path

import torch

from benchmarks import gpu_agreement, gpu_speed
from benchmarks.gpu_parts import Lines, OutOfTime, Setting
from benchmarks.report import Report

ROOT = Path(__file__).parents[1]

Part = Callable[[Lines, Setting], None]

# Tests that never meet a GPU: of messages, files, the command line, figures and the page's scripts.
ELSEWHERE = "arguments download explorer folders main parallel plots pretrained scaling sources"


def cuda_tests(lines: Lines, setting: Setting) -> None:
    """The library's tests on this device: their last line, and what failed."""
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-rfE", "--tb=line"]
    command += ["--continue-on-collection-errors", "--device", setting.device]
    # As pyproject.toml has it, which an older pytest does not read.
    command += ["--import-mode=importlib", "-p", "no:benchmark"]
    path = os.pathsep.join([str(ROOT), str(ROOT / "tests"), os.environ.get("PYTHONPATH", "")])
    command += [f"--ignore=tests/vaelib/test_{name}.py" for name in ELSEWHERE.split()]
    if find_spec("xdist") and not setting.quick:
        command += ["-n", str(min(8, os.cpu_count() or 1))]
    command += ["tests/vaelib/test_history.py"] if setting.quick else ["tests/vaelib"]
    with tempfile.TemporaryFile("w+") as output:
        process = subprocess.Popen(
            command,
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": path},
            stdout=output,
            stderr=subprocess.STDOUT,
        )
        try:
            process.wait(setting.left() - 25)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGINT)  # so that it says what it has found
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(20)
        finally:
            process.kill()
            output.seek(0)
            said = output.read().splitlines()
    failures = [line for line in said if line.startswith(("FAILED", "ERROR"))]
    lines.in_short(f"tests/vaelib on {setting.device}", said[-1].strip("= ") if said else "nothing")
    if failures:
        lines.text("Failed:\n\n" + "\n".join(f"- {line[:300]}" for line in failures[:60]))


PARTS: dict[str, tuple[Part, float]] = {
    "agreement": (gpu_agreement.agreement, 70),
    "training": (gpu_speed.training, 130),
    "log-likelihood": (gpu_speed.likelihood, 40),
    "refusals": (gpu_agreement.refusals, 50),
    "tests": (cuda_tests, 150),
    "convolutional": (gpu_speed.convolutional, 100),
    "baselines": (gpu_agreement.baselines, 30),
    "compiled": (gpu_speed.compiled, 60),
}
"""By name, with the seconds that each may take; the first ones matter most."""


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--quick", action="store_true", help="see that it runs: keeps nothing")
    parser.add_argument("--minutes", type=float, default=7.8, help="for all parts together")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--folder", type=Path, help="of the results file")
    parser.add_argument("--part", help=argparse.SUPPRESS)
    parser.add_argument("--lines", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--seconds", type=float, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.device.startswith("cuda") and not torch.cuda.is_available():
        parser.error("there is no CUDA device here: --device cpu --quick shows that it runs")
    if options.part:
        make_part(options)
        return
    report = Report("gpu", "\n\n".join(__doc__.split("\n\n")[1:3]), options.device, options.folder)
    # To see that it runs, however busy the machine may be.
    patience = 20 if options.quick else 1
    end = time.monotonic() + 60 * options.minutes * patience
    for name in options.parts:
        seconds = min(PARTS[name][1] * patience, end - time.monotonic())
        report.text(f"# {name.capitalize()}")
        if seconds < 15:
            report.text("No time was left.")
            continue
        run_part(report, name, seconds, options)
    report.close(save=not options.quick)


def run_part(report: Report, name: str, seconds: float, options: argparse.Namespace) -> None:
    """A part in a process of its own, since an error on a GPU spoils the process it happens in.

    What it says is kept as it comes.
    """
    start = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        said = Path(folder, "lines")
        said.touch()
        command = [sys.executable, "-m", "benchmarks.gpu", "--device", options.device]
        command += ["--part", name, "--lines", str(said), "--seconds", str(seconds)]
        command += ["--quick"] if options.quick else []
        path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
        process = subprocess.Popen(command, cwd=ROOT, env={**os.environ, "PYTHONPATH": path})
        told = 0
        try:
            while True:
                ended = process.poll() is not None
                entries = said.read_text().splitlines()
                for entry in entries[told:]:
                    kind, *values = json.loads(entry)
                    getattr(report, kind)(*values)
                if len(entries) > told and not options.quick:
                    report.keep()
                told = len(entries)
                if ended:
                    break
                if time.monotonic() - start > seconds + 20:
                    report.text("Stopped: its time was over.")
                    break
                time.sleep(0.2)
        finally:
            process.kill()
            process.wait()
    if process.returncode:
        report.text(f"The process ended with {process.returncode}.")
    report.text(f"{name} took {time.monotonic() - start:.0f} s.")


def make_part(options: argparse.Namespace) -> None:
    """What the process of a part does; its errors become lines."""
    lines = Lines(options.lines)
    setting = Setting(options.device, options.quick, time.monotonic() + options.seconds)

    def over(*_: object) -> None:
        raise OutOfTime(f"its {options.seconds:.0f} seconds were over")

    signal.signal(signal.SIGALRM, over)
    signal.setitimer(signal.ITIMER_REAL, options.seconds)
    try:
        PARTS[options.part][0](lines, setting)
    except (Exception, OutOfTime) as error:
        last = traceback.extract_tb(error.__traceback__)[-1]
        lines.in_short(f"{options.part}: broken off", f"{type(error).__name__}: {error}"[:200])
        lines.text(f"Broken off in {last.filename}, line {last.lineno}: {error}"[:1000])
        traceback.print_exc()


if __name__ == "__main__":
    main()
