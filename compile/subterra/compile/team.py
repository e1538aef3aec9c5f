"""Training on several processes, one for each core: each learns a part of every step's dialogues.

Goes in: a learner, and how many processes. Comes out: the gradient of the whole step in the
learner's vector. Threads of one process wait for each other a hundred times a layer, and all wait
for the one whose core another program uses; processes meet once a step (docs/decisions.md). The
parameters lie in shared memory and belong to the first process; the others hold the frozen base and
a gradient vector each. Nothing goes over a network.

    >>> with gather(learner, job.base, settings, size=2) as team:
    ...     loss = team.learn(group, seed=1, total=220.0)
"""

import shutil
import signal
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, multiprocessing

from subterra.compile.batches import Group
from subterra.compile.learner import Learner, prepare_process
from subterra.compile.settings import TrainSettings
from subterra.compile.validate import Counts
from subterra.models.resolve import Base
from subterra.runtime.errors import ResourceError

SHARED_MEMORY = Path("/dev/shm")  # noqa: S108 - asked for its size, not written
GONE = (EOFError, BrokenPipeError, ConnectionResetError)
HINT = "train on one process: subterra compile PROCEDURE --processes 1"


class Team:
    """The processes of one run; the first is this one."""

    def __init__(self, learner: Learner, helpers: "Sequence[_Helper]" = ()) -> None:
        self._learner, self._helpers = learner, helpers

    @property
    def size(self) -> int:
        """Processes, this one included."""
        return 1 + len(self._helpers)

    def learn(self, group: Group, seed: int, total: float) -> float:
        """Put the gradient of the whole group in the learner's vector; return the loss.

        Args:
            group: dialogues of one step.
            seed: of the noise; each process takes one of its own from it.
            total: sum of the weights of the whole group's tokens.

        Raises:
            ResourceError: a process died.
        """
        parts = [part for index in range(self.size) if (part := group[index :: self.size])]
        busy = self._helpers[: len(parts) - 1]
        for index, helper in enumerate(busy, 1):
            helper.ask(Learner.learn, parts[index], seed + index, total)
        loss = self._learner.learn(parts[0], seed, total)
        for helper in busy:
            loss += float(helper.answer())
            self._learner.flat.gradient += helper.gradient
        return loss

    def read(self, groups: Sequence[Group]) -> Counts:
        """Count what is right on validation dialogues.

        Raises:
            ResourceError: a process died.
        """
        for index, helper in enumerate(self._helpers, 1):
            helper.ask(Learner.read, groups[index :: self.size])
        counts = self._learner.read(groups[:: self.size])
        return sum((helper.answer() for helper in self._helpers), counts)

    def processor_seconds(self) -> float:
        """Give the processor time of all processes together."""
        for helper in self._helpers:
            helper.ask(Learner.processor_seconds)
        own = self._learner.processor_seconds()
        return sum((float(helper.answer()) for helper in self._helpers), own)


@contextmanager
def gather(
    learner: Learner, base: Base, settings: TrainSettings, size: int, threads: int = 1
) -> Iterator[Team]:
    """Start `size` - 1 processes beside this one, of so many threads each; end them afterwards.

    Raises:
        ResourceError: there is no room for a process, or one died while it started.
    """
    helpers: list[_Helper] = []
    try:
        for _ in range(size - 1):
            helper = _started(learner.flat.values, base, settings, threads)
            helpers.append(helper)
        for helper in helpers:
            helper.answer()
        yield Team(learner, helpers)
    finally:
        for helper in helpers:
            helper.end()


def team_size(wanted: int, batch: int, cores: int, vector_bytes: int) -> int:
    """Choose how many processes train.

    Args:
        wanted: by the user; 0: as many as there are cores.
        batch: dialogues a step; a process needs one at least.
        cores: that this process may use.
        vector_bytes: size of all trained parameters; each process shares a vector like it.
    """
    size = min(wanted or cores, batch)
    try:
        room = shutil.disk_usage(SHARED_MEMORY).free
    except OSError:
        return size
    return max(1, min(size, room // max(vector_bytes, 1) - 1))


def _started(values: Tensor, base: Base, settings: TrainSettings, threads: int) -> "_Helper":
    """Start a process that shares the learner's vector and has a gradient of its own."""
    context = multiprocessing.get_context("spawn")
    try:
        values.share_memory_()  # type: ignore[no-untyped-call]
        gradient = torch.zeros_like(values).share_memory_()  # type: ignore[no-untyped-call]
        here, there = context.Pipe()
        arguments = (there, base, settings, values, gradient, threads)
        process = context.Process(target=_serve, args=arguments, daemon=True)
        process.start()
    except (OSError, RuntimeError) as error:  # torch says RuntimeError of full shared memory
        raise ResourceError(f"cannot start a training process: {error}", hint=HINT) from error
    there.close()
    return _Helper(process, here, gradient)


class _Helper:
    """A process that learns, seen from the first one."""

    def __init__(self, process: Any, connection: Connection, gradient: Tensor) -> None:
        self._process, self._connection = process, connection
        self.gradient = gradient

    def ask(self, method: Callable[..., object], *arguments: object) -> None:
        try:
            self._connection.send((method.__name__, arguments))
        except GONE:
            raise self._lost() from None

    def answer(self) -> Any:
        wait([self._connection, self._process.sentinel])
        try:
            if self._connection.poll():
                return self._connection.recv()
        except GONE:
            pass
        raise self._lost()

    def end(self) -> None:
        self._connection.close()
        self._process.terminate()
        self._process.join()

    def _lost(self) -> ResourceError:
        self._process.join(1)
        code = self._process.exitcode
        return ResourceError(
            f"a training process ended with exit status {code}; was memory short?", hint=HINT
        )


def _serve(
    connection: Connection,
    base: Base,
    settings: TrainSettings,
    values: Tensor,
    gradient: Tensor,
    threads: int,
) -> None:
    """Do what the first process asks, until it is gone."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the first process ends the others
    prepare_process(threads)
    learner = Learner(base, settings, values=values, gradient=gradient)
    try:
        connection.send(None)
        while True:
            name, arguments = connection.recv()
            connection.send(getattr(learner, name)(*arguments))
    except GONE:
        return
