"""Work on a GPU as one graph, and what has to be so that it can be captured and replayed."""

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
    """Work that cannot be replayed; the message says why."""


def capture(
    work: Callable[[], object], generators: Sequence[torch.Generator] = ()
) -> torch.cuda.CUDAGraph:
    """The work as a graph on the current stream, which is not the default one; it is not done.

    Arguments:
        work: what is launched, always the same on the same memory. It was done before, on the same
            stream, so that nothing is set up for the first time.
        generators: that it draws from, besides the default one. Each replay draws anew.

    Raises:
        CaptureError: when the work does what a graph cannot hold. The generators are then as they
            were, and draw on.
    """
    device = torch.cuda.current_device()
    drawn_from = [*generators, torch.cuda.default_generators[device]]
    before = [generator.get_state() for generator in drawn_from]
    graph = torch.cuda.CUDAGraph()
    if _registers_generators():
        for generator in generators:
            graph.register_generator_state(generator)
    try:
        # Only this thread's work counts, whatever others ask of the GPU meanwhile.
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
            # A capture that fails leaves its generators waiting for its end: they get a new state.
            generator.graphsafe_set_state(torch.Generator(generator.device))
            generator.set_state(state)
        raise CaptureError(_first_cause(error)) from error
    return graph


def reading_of_a_value(work: Callable[[], object]) -> str | None:
    """Do the work, and tell where it waits for the GPU to know a value, which no graph can.

    Such a capture would fail, and leave the memory of the process in a worse state.
    """
    mode = torch.cuda.get_sync_debug_mode()
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        torch.cuda.set_sync_debug_mode("warn")
        try:
            work()
        finally:
            torch.cuda.set_sync_debug_mode(mode)
    # Not what the mode says of itself when it is first set.
    readings = [w for w in seen if "called a synchronizing" in str(w.message)]
    if not readings:
        return None
    return f"{Path(readings[0].filename).name}, line {readings[0].lineno}, reads a value"


@contextlib.contextmanager
def stream(device: torch.device) -> Iterator[None]:
    """A CUDA stream of its own, on which work may be captured; elsewhere nothing."""
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
    """Inside the `with`, a GPU's convolutions give the same sums each time.

    Left to itself, cuDNN adds in any order, and two runs differ in the fifth digit. Its settings
    are the whole process's; they are put back.
    """
    cudnn = torch.backends.cudnn
    before = cudnn.deterministic, cudnn.benchmark
    # One by one: `cudnn.flags` would also set what has nothing to do with it.
    cudnn.deterministic, cudnn.benchmark = True, False
    try:
        yield
    finally:
        cudnn.deterministic, cudnn.benchmark = before


def _registers_generators() -> bool:
    # From 2.14 on PyTorch does it by itself, and warns of those who do.
    major, minor = (int(part) for part in torch.__version__.split(".")[:2])
    return (major, minor) < (2, 14)


def _first_cause(error: BaseException) -> str:
    """What went wrong first, and in which line: what comes after is that the capture failed."""
    while error.__context__ is not None:
        error = error.__context__
    text = str(error).strip().splitlines() or [type(error).__name__]
    own = [f for f in traceback.extract_tb(error.__traceback__) if "/torch/" not in f.filename]
    place = f"{Path(own[-1].filename).name}, line {own[-1].lineno}: " if own else ""
    return place + text[0]
