"""A history grows by rows, and says what it holds."""

from __future__ import annotations

import pickle

import pytest
import torch

from vaelib.history import History, Interrupted, NonFiniteError


def test_a_history_grows_by_rows() -> None:
    history = History.empty("static binarisation")
    assert len(history) == 0
    assert history.best_epoch is None
    for elbo in (-3.0, -1.0, -2.0):
        history.append(reconstruction=-1.0, kl=torch.tensor([1.0, 0.5]), validation_elbo=elbo)
    assert history.best_epoch == 2
    assert history.epochs.tolist() == [1, 2, 3]
    assert history.elbo.tolist() == [-2.5, -2.5, -2.5]
    assert repr(history) == (
        "History(3 epochs, static binarisation: ELBO -2.50 nats, validation -2.00)"
    )


@pytest.mark.parametrize("kind", [NonFiniteError, Interrupted])
def test_an_error_reaches_another_process_with_its_history(
    kind: type[NonFiniteError] | type[Interrupted],
) -> None:
    history = History.empty("static binarisation")
    history.append(reconstruction=-1.0, kl=torch.tensor([1.0, 0.5]))
    read = pickle.loads(pickle.dumps(kind("stopped", history)))
    assert isinstance(read, kind)
    assert str(read) == "stopped"
    assert read.history.elbo.tolist() == [-2.5]
