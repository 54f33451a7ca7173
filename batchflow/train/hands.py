"""Processes that share the rows of a training step, one a core.

The network is small: its single operations are too short to be shared among cores, and threads that take
rows of their own wait for each other at Python's lock a thousand times a step. Processes meet once a step:
they see the weights in shared memory, are told of a batch by a byte through a pipe, and answer with another
when their gradients are written. They end when the pipe does, however the training ended.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import torch
from torch import Tensor

from batchflow.errors import UserError
from batchflow.flow.density import Batch
from batchflow.flow.model import ConditionalFlow
from batchflow.settings.train import FlowSettings
from batchflow.train.board import Board, Shape, lay_out
from batchflow.train.parts import slope

BYTE = b"."


class Hands:
    """The processes, and the memory that they share with this one."""

    def __init__(self, number: int, flow: ConditionalFlow, rows: int) -> None:
        n_weights = sum(weight.numel() for weight in flow.parameters())
        shape = Shape(n_weights, rows, flow.n_parameters, flow.n_features)
        memory = _memory(Board.bytes(shape))
        try:
            self.board = Board(shape, memory)
            own = [list(range(first, len(self.board.parts), number)) for first in range(number)]
            told = {"shape": shape, "memory": memory, "flow": flow.settings.model_dump(mode="json")}
            self._hands = [_Hand({**told, "own": places}) for places in own]
        finally:
            os.close(memory)

    def wait(self) -> None:
        """Wait until each has said that it is done; first of all, that it is there."""
        for hand in self._hands:
            hand.hear()

    def slopes(self, batch: Batch) -> list[tuple[Tensor, Tensor]]:
        """Loss and gradient of each part of a batch, in order.

        Parameters
        ----------
        batch : Batch
            A whole one.

        Returns
        -------
        list of tuple of Tensor, shapes () and (n_weights,)
            Views of the shared memory: the next call overwrites them.

        Raises
        ------
        UserError
            When one of the processes has ended.
        """
        for column, values in zip(self.board.batch, batch, strict=True):
            column.copy_(values)
        for hand in self._hands:
            hand.tell()
        self.wait()
        return list(zip(self.board.losses, self.board.slopes, strict=True))

    def close(self) -> None:
        """End the processes."""
        for hand in self._hands:
            hand.close()


class _Hand:
    """One of them, seen from the training."""

    def __init__(self, told: dict[str, Any]) -> None:
        call, self._call = os.pipe()
        self._answer, answer = os.pipe()
        # Nothing of it comes from outside: an interpreter, a module's name, and numbers.
        command = [sys.executable, "-m", __name__, json.dumps(told)]
        self._process = subprocess.Popen(  # noqa: S603
            command, stdin=call, stdout=answer, pass_fds=[told["memory"]]
        )
        os.close(call)
        os.close(answer)

    def tell(self) -> None:
        """Let it work."""
        # Where it has ended, `hear` says so.
        with suppress(BrokenPipeError):
            os.write(self._call, BYTE)

    def hear(self) -> None:
        """Wait until it has worked."""
        if os.read(self._answer, 1) == BYTE:
            return
        raise UserError(
            f"a process of the training (id {self._process.pid}) ended with status {self._process.wait()}, "
            "perhaps for want of memory; run the job again: training goes on from its last checkpoint"
        )

    def close(self) -> None:
        """Let it go: it ends with the pipe."""
        os.close(self._call)
        os.close(self._answer)
        self._process.wait()


def _memory(size: int) -> int:
    """A file without a name, in memory where the system can; its descriptor."""
    if hasattr(os, "memfd_create"):
        descriptor = os.memfd_create("batchflow", 0)
    else:
        with tempfile.TemporaryFile() as file:
            descriptor = os.dup(file.fileno())
    os.truncate(descriptor, size)
    return descriptor


@contextmanager
def hired(number: int, flow: ConditionalFlow, rows: int) -> Iterator[Hands | None]:
    """Have hands for as long as the block runs.

    Parameters
    ----------
    number : int
        Of processes; with fewer than two there are no hands: the training does all itself.
    flow : ConditionalFlow
        What is trained.
    rows : int
        Of a batch.

    Yields
    ------
    Hands or None
        All of them ready.
    """
    if number < 2:
        yield None
        return
    hands = Hands(number, flow, rows)
    try:
        hands.wait()
        yield hands
    finally:
        hands.close()


def main(told: dict[str, Any]) -> None:
    """Be one of the hands.

    Parameters
    ----------
    told : dict
        Shape of the board and the open file that it lies in, the flow's settings, numbers of the own parts.
    """
    # Ctrl-C is for the training, which then closes the pipe.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    torch.set_num_threads(1)
    shape = Shape(*told["shape"])
    board = Board(shape, told["memory"])
    flow = ConditionalFlow(shape.features, shape.parameters, FlowSettings(**told["flow"]))
    lay_out(list(flow.parameters()), board.weights, keep=False)
    # The training may end at any moment, and the pipe with it.
    with suppress(BrokenPipeError):
        os.write(1, BYTE)
        while os.read(0, 1):
            for part in told["own"]:
                rows = board.batch.rows(board.parts[part])
                board.losses[part], board.slopes[part] = slope(flow, rows, shape.rows)
            os.write(1, BYTE)


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
