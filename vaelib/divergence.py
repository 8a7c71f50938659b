"""Errors for a bound that is no longer finite, with the step, the term and what was kept."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator

import torch
from torch import Tensor

from vaelib._checks import value_checks
from vaelib.history import NonFiniteError
from vaelib.objective import term_sums
from vaelib.resumption import Run

__all__ = ["check_finite_terms", "divergence", "divergence_named"]


@contextlib.contextmanager
def divergence_named(
    run: Run, step: int, x: Tensor, eps: Tensor, y: Tensor | None
) -> Iterator[None]:
    """Raise `NonFiniteError` where a value is refused although the data are finite."""
    try:
        yield
    except ValueError:
        if not x.isfinite().all():
            raise
        # By the model alone: other processes may see no fault, and would not join another step.
        with value_checks(False), torch.no_grad():
            row = term_sums(run.objective(x, eps, y)).cpu().double()
            check_finite_terms(row.unsqueeze(0), step, run)
        raise


def check_finite_terms(rows: Tensor, first_step: int, run: Run) -> None:
    """Raise `NonFiniteError` if a sum of terms is not finite; `rows` has one row per step."""
    if math.isfinite(rows.sum()):
        return
    bad = ~rows.isfinite()
    row = int(bad.any(1).nonzero()[0])
    terms = ["reconstruction"] if bad[row, 0] else []
    terms += ["KL"] if bad[row, 1:].any() else []
    raise divergence(run, first_step + row, " and ".join(terms))


def divergence(run: Run, step: int, what: str) -> NonFiniteError:
    """The error for a term that diverged in a step, counted from 0."""
    kept = f", and the run in {run.checkpoint} as last written" if run.checkpoint else ""
    if step or len(run.history):  # which has the epoch once its steps are made
        advice = "A lower learning rate often helps" + ", with resume=True" * bool(run.checkpoint)
    else:
        advice = "The parameters were still the initial ones: scale the data (`standardise`)"
    return NonFiniteError(
        f"{what} became NaN or infinite in step {step + 1} (epoch {len(run.whole_history) + 1}); "
        f"the model is as before that epoch{kept}. {advice}",
        run.history,
    )
