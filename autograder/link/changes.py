"""How changes cross.

With every message goes what changed since the last one in whatever both sides hold: values and
gradients of parameters and of the arguments of calls under way, training modes, states of random
generators. Only one side runs at a time, so no two changes meet.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from autograder.link import messages
from autograder.link.errors import expect, lookup
from autograder.link.messages import UNCHANGED
from autograder.link.optional import nn, torch
from autograder.link.outgoing import Outgoing
from autograder.link.randomness import accept_torch
from autograder.link.table import Frame, Known, Lent, Table, options_of, parts_of, version_of
from autograder.link.tensors import pack_tensor, raw_bytes, unpack_tensor
from autograder.link.values import Decoder

__all__ = ["Changes", "Made", "assign", "draw", "lent_of"]


class Changes:
    """What has changed since the last message, to be told in one that is else complete."""

    def __init__(self, out: Outgoing) -> None:
        self._out = out
        self._table = out.table
        self._done: set[tuple[bool, int]] = set()
        self._found: list[Any] = []

    def find(self, last: Frame | None) -> list[Any]:
        """All changes; `last` is the frame that ends with the message."""
        for entry in list(self._table.watch_own.values()):
            self._look(True, entry.key, entry.obj, entry.known)
        for handle in list(self._table.watch_theirs.values()):
            self._look(False, handle.key, handle.ref(), handle.known)
        for frame in self._table.frames:
            for (mine, key), (tensor, known) in frame.tensors.items():
                self._look(mine, key, tensor, known, frame is last or tensor.numel() <= 2**14)
            for lent in frame.generators:
                state = lent.generator.get_state().numpy().tobytes()
                if state != lent.state:
                    self._out.notes.later(setattr, lent, "state", state)
                    self._tell("G", lent.mine, lent.key, self._out.encoder.encode(state))
        for key, value, known in self._out.touched:
            self._look(False, key, value, known)
        return self._found

    def _tell(self, kind: str, mine: bool, key: int, now: Any) -> None:
        self._found.append(messages.Change(kind, mine, key, now).tree())

    def _look(
        self, mine: bool, key: int, value: Any, known: Known | None, deep: bool = True
    ) -> None:
        if known is None or value is None or (mine, key) in self._done:
            return
        if mine and key in self._out.notes.told:
            return
        self._done.add((mine, key))
        if isinstance(value, nn.Module):
            if mine and known.parts != parts_of(value):
                self._tell("d", mine, key, self._out.other(value))
            elif value.training is not known.training:
                self._out.notes.later(known.become, training=value.training)
                self._tell("m", mine, key, bool(value.training))
        elif isinstance(value, torch.optim.Optimizer):
            options = options_of(value)
            if options != known.groups:
                self._out.notes.later(known.become, groups=options)
                self._tell("g", mine, key, self._out.encoder.encode(options))
        else:
            written = self._written(value, known, deep)
            if written is not None:
                self._tell("u", mine, key, written.tree())

    def _written(self, value: torch.Tensor, known: Known, deep: bool) -> messages.Written | None:
        now: dict[str, Any] = {"version": version_of(value)}
        counted = now["version"] != known.version
        if value.dtype is not known.dtype or value.shape != known.shape:
            changed = True
        elif known.data is None:
            changed = counted
        else:
            changed = (deep or counted) and raw_bytes(value) != known.data
        data: Any = UNCHANGED
        if changed:
            data = pack_tensor(value, self._out.encoder.blobs)
            now |= {"dtype": value.dtype, "shape": value.shape}
            now["data"] = None if known.data is None else raw_bytes(value)
        grad: Any = UNCHANGED
        if value.is_leaf and not known.has_grad(value.grad):
            grad = self._out.gradient(value)
            self._out.notes.later(known.see_grad, value)
        needs = None
        if value.is_leaf and value.requires_grad is not known.needs:
            needs = now["needs"] = value.requires_grad
        if changed or counted or needs is not None:
            self._out.notes.later(known.become, **now)
        if not changed and grad == UNCHANGED and needs is None:
            return None
        return messages.Written(data, counted, grad, needs)


def lent_of(frames: list[Frame], mine: bool, key: int) -> list[Lent]:
    """The generators of this number that calls under way have lent."""
    every = [lent for frame in frames for lent in frame.generators]
    return [lent for lent in every if lent.mine is mine and lent.key == key]


def draw(every: list[Lent], state: Any, *, checked: bool) -> None:
    """Advance generators to the state that came."""
    claim = expect(state, bytes, "a random state")
    for lent in every:
        accept_torch(lent.generator, claim, checked=checked)
        lent.state = lent.generator.get_state().numpy().tobytes()


class Made:
    """Makes here what the other side has changed, while these calls are under way."""

    def __init__(
        self, table: Table, frames: list[Frame], decoder: Decoder, other: Callable[[Any], Any]
    ) -> None:
        self._table, self._frames = table, frames
        self._decoder, self._other = decoder, other

    def make(self, change: messages.Change) -> None:
        """Make one change."""
        if change.kind == "G":
            lent = lent_of(self._frames, not change.mine, change.key)
            draw(lent, self._decoder.decode(change.now), checked=self._table.guarded)
        elif change.kind == "d" and change.mine:
            self._other(change.now)
        else:
            make = lookup(_MAKERS, change.kind)
            value, known = self._held(change)
            if known is not None:
                make(self, value, known, change.now)

    def _held(self, change: messages.Change) -> tuple[Any, Known | None]:
        table, key = self._table, change.key
        if change.mine:
            handle = table.theirs.get(key)
            return (handle.ref(), handle.known) if handle is not None else (None, None)
        entry = table.own.get(key)
        # A test's own value changes only while it is lent.
        lent = not table.guarded or any(key in frame.sent for frame in self._frames)
        return (entry.obj, entry.known) if entry is not None and lent else (None, None)

    def _mode(self, value: Any, known: Known, training: Any) -> None:
        if isinstance(value, nn.Module):
            value.training = expect(training, bool, "a mode")
            known.become(training=value.training)

    def _options(self, value: Any, known: Known, tree: Any) -> None:
        options = expect(self._decoder.decode(tree), list, "options")
        if not isinstance(value, torch.optim.Optimizer):
            return
        for group, new in zip(value.param_groups, options, strict=False):
            now = expect(new, dict, "options").items()
            group |= {key: option for key, option in now if key in group and key != "params"}
        known.become(groups=options_of(value))

    def _values(self, value: Any, known: Known, tree: Any) -> None:
        written, blobs = messages.Written.read(tree), self._decoder.blobs
        if not isinstance(value, torch.Tensor):
            return
        if written.data != UNCHANGED:
            assign(value, unpack_tensor(written.data, blobs), counted=written.counted)
        if value.is_leaf:
            if written.needs is not None:
                value.requires_grad_(written.needs)
            if written.grad != UNCHANGED:
                grad = written.grad
                value.grad = None if grad is None else unpack_tensor(grad, blobs)
        known.become(**vars(Known(value, keep=known.data is not None)))


_MAKERS = {"m": Made._mode, "g": Made._options, "u": Made._values}


def assign(tensor: torch.Tensor, new: torch.Tensor, *, counted: bool = True) -> None:
    """Give a tensor other values, in place where they fit; `counted`: autograd is to know of it."""
    if tensor.dtype is new.dtype and tensor.shape == new.shape:
        try:
            (tensor.detach() if counted else tensor.data).copy_(new)
            return
        except RuntimeError:  # memory that several elements share, an inference tensor
            pass
    tensor.data = new
