"""What a grader works out once for a class is what each check would work out by itself."""

from __future__ import annotations

import pickle

import pytest
import torch

from vae_exercises import rehearsal
from vae_exercises.facts import agree, same
from vae_exercises.kl import kl_to_standard_normal as task

SOURCE = """
exercise.kl_to_standard_normal.check("value", kl_to_standard_normal)
exercise.kl_to_standard_normal.check("gradient", kl_to_standard_normal, "another seed")
exercise.no_such_task.check("value", print)
exercise.kl_to_standard_normal.check("no such aspect", print)
exercise.kl_to_standard_normal.hint()
"""


def test_a_check_takes_what_was_worked_out_elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(task, "_kept", {})
    found = pickle.loads(pickle.dumps(rehearsal.__rehearse__(SOURCE)))
    assert {key[1:] for key in found} == {
        ("kl_to_standard_normal", "value", "visible"),
        ("kl_to_standard_normal", "gradient", "another seed"),
    }
    monkeypatch.setattr(task, "_kept", {})
    rehearsal.__remember__(found)
    before, state = dict(task._kept), torch.get_rng_state()
    for key, facts in before.items():
        assert task._known(key[0], task._reference, key[2]) is facts
        assert same(facts, task._facts(key[0], task._reference, key[2]), agree)
    task.check("gradient", task._reference, "another seed")
    assert task._kept == before
    assert torch.equal(torch.get_rng_state(), state)
