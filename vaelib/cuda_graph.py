"""CUDA graphs: work on a GPU that is captured once and replayed."""

from __future__ import annotations

import contextlib
import threading
import traceback
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import torch

__all__ = ["CaptureError", "capture", "reading_of_a_value", "repeatable", "stream"]

# A process can capture one graph at a time.
_CAPTURING = threading.Lock()

# The memory allocator still points to graphs whose capture failed.
_FAILED: list[torch.cuda.CUDAGraph] = []


class CaptureError(RuntimeError):
    """The work cannot be captured; the message says why."""


def capture(
    work: Callable[[], object], generators: Sequence[torch.Generator] = ()
) -> torch.cuda.CUDAGraph:
    """Capture the work as a graph on the current stream, without doing it.

    The current stream must not be the default one.

    Arguments:
        work: launches the same kernels on the same memory at every call. It must have run before on
            the same stream, so that nothing is set up for the first time.
        generators: those that the work draws from, besides the default one. Each replay draws new
            numbers.

    Raises:
        CaptureError: when a graph cannot hold the work. The generators keep their state and can
            still be used.
    """
    device = torch.cuda.current_device()
    drawn_from = [*generators, torch.cuda.default_generators[device]]
    before = [generator.get_state() for generator in drawn_from]
    graph = torch.cuda.CUDAGraph()
    if _registers_generators():
        for generator in generators:
            graph.register_generator_state(generator)
    try:
        # Capture this thread's work only, whatever other threads ask of the GPU.
        with (
            _CAPTURING,
            torch.cuda.graph(
                graph, stream=torch.cuda.current_stream(), capture_error_mode="thread_local"
            ),
        ):
            work()
    except Exception as error:
        torch.cuda.synchronize()
        _FAILED.append(graph)
        for generator, state in zip(drawn_from, before, strict=True):
            # A failed capture leaves its generators waiting for its end: give them a new state.
            generator.graphsafe_set_state(torch.Generator(generator.device))
            generator.set_state(state)
        raise CaptureError(_first_cause(error)) from error
    return graph


def reading_of_a_value(work: Callable[[], object]) -> str | None:
    """Do the work, and return the line where it waits for a value from the GPU, or None.

    A graph cannot wait. A capture that fails for this reason would waste memory of the process, so
    this is found out first.
    """
    mode = torch.cuda.get_sync_debug_mode()
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        torch.cuda.set_sync_debug_mode("warn")
        try:
            work()
        finally:
            torch.cuda.set_sync_debug_mode(mode)
    # Skip the warning that torch gives when the mode is first set.
    readings = [w for w in seen if "called a synchronizing" in str(w.message)]
    if not readings:
        return None
    return f"{Path(readings[0].filename).name}, line {readings[0].lineno}, reads a value"


@contextlib.contextmanager
def stream(device: torch.device) -> Iterator[None]:
    """Use a separate CUDA stream, on which work can be captured; do nothing on other devices."""
    if device.type != "cuda":
        yield
        return
    with torch.cuda.device(device):
        side, outer = torch.cuda.Stream(), torch.cuda.current_stream()
        side.wait_stream(outer)
        try:
            with torch.cuda.stream(side):
                yield
        finally:
            outer.wait_stream(side)


@contextlib.contextmanager
def repeatable() -> Iterator[None]:
    """Make a GPU's convolutions repeatable inside the `with`.

    By default cuDNN adds in any order, and two runs differ in the fifth digit. Its settings hold
    for the whole process, and are restored afterwards.
    """
    cudnn = torch.backends.cudnn
    before = cudnn.deterministic, cudnn.benchmark
    # One by one, since `cudnn.flags` would set other things too.
    cudnn.deterministic, cudnn.benchmark = True, False
    try:
        yield
    finally:
        cudnn.deterministic, cudnn.benchmark = before


def _registers_generators() -> bool:
    # From version 2.14 on, PyTorch registers them itself, and warns if the caller does.
    major, minor = (int(part) for part in torch.__version__.split(".")[:2])
    return (major, minor) < (2, 14)


def _first_cause(error: BaseException) -> str:
    """The first error and its line; later errors only say that the capture failed."""
    while error.__context__ is not None:
        error = error.__context__
    text = str(error).strip().splitlines() or [type(error).__name__]
    own = [f for f in traceback.extract_tb(error.__traceback__) if "/torch/" not in f.filename]
    place = f"{Path(own[-1].filename).name}, line {own[-1].lineno}: " if own else ""
    return place + text[0]
