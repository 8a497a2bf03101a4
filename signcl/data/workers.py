"""Reads clips ahead with persistent worker processes that write directly into the memory of the batch.

A unit of work is one clip, so many workers read the same batch at once. The main process requests the clips of the next
batches, in order, and assembles each batch when its last clip arrives. All memory is one ring buffer shared with the
workers; a batch returns its part when it is garbage-collected. A clip that does not fit (its length differs from its
header, or the ring is full) is sent through a pipe and copied, which is slower but gives the same result.
"""

from __future__ import annotations

import contextlib
import mmap
import multiprocessing
import os
import signal
import sys
import traceback
import weakref
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from multiprocessing import connection
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

if TYPE_CHECKING:
    from signcl.data.loading import ClipDataset, Loaded

__all__ = ["BatchMemory", "ClipLoader", "batch_memory"]

AHEAD = 3
"""Clips per worker that are read ahead of the batch that training waits for."""
IN_HAND = 2
"""Clips assigned to a worker at once: the one it reads and the next."""
PAGE = 4096
SHARE_OF_RAM = 0.25
"""Maximum share of the machine's memory for the ring."""
PARENT_CHECK = 5.0  # seconds; a closed pipe is noticed at once, this is for a pipe inherited by another process


@dataclass(frozen=True)
class BatchMemory:
    """Memory layout of the frames of a batch."""

    counts: tuple[int, ...]
    """Frames of each clip."""
    row: tuple[int, ...]
    """Shape of a frame."""
    dtype: np.dtype

    @property
    def nbytes(self) -> int:
        return sum(self.counts) * int(np.prod(self.row)) * self.dtype.itemsize

    def of(self, source: Any = None, offset: int = 0) -> np.ndarray:
        """An array on the bytes of `source`, or on new memory."""
        shape = (sum(self.counts), *self.row)
        return np.empty(shape, self.dtype) if source is None else np.ndarray(shape, self.dtype, source, offset)

    def parts(self, whole: np.ndarray) -> list[np.ndarray]:
        """The rows of each clip."""
        return np.split(whole, np.cumsum(self.counts)[:-1])


def batch_memory(clips: Sequence[tuple[tuple[int, ...], np.dtype] | None]) -> BatchMemory | None:
    """Memory layout for clips of (shape, type), or None if one is unknown or they do not match."""
    known = [clip for clip in clips if clip is not None]
    kinds = {(shape[1:], dtype) for shape, dtype in known}
    if len(known) < len(clips) or len(kinds) != 1:
        return None
    row, dtype = kinds.pop()
    return BatchMemory(tuple(shape[0] for shape, _ in known), row, dtype)


@dataclass
class _Batch:
    """A batch that is being read."""

    indices: list[int]
    clips: list[Any]
    left: int
    """Number of clips that have not arrived."""
    whole: np.ndarray | None = None
    parts: list[Any] = field(default_factory=list)


@dataclass(frozen=True)
class _Task:
    """A task for a worker. `place` is offset, shape and type in the ring."""

    number: int
    dataset: int
    index: int
    epoch: int
    place: tuple[int, tuple[int, ...], np.dtype] | None


class _Ring:
    """Shared memory that is allocated in pieces and freed in any order."""

    def __init__(self, size: int) -> None:
        try:
            self.memory = mmap.mmap(-1, size)  # anonymous and shared: no file, no limit of /dev/shm, pages on first use
        except OSError as error:
            raise ValueError(
                f"train.workers: cannot allocate {size / 1e9:.1f} GB of shared memory for the loader "
                f"({error.strerror}); lower "
                f"train.workers, train.batch_size or train.batch_frames"
            ) from None
        self.size = size
        self.used: dict[int, int] = {}

    def take(self, size: int) -> int | None:
        """Offset of a free piece, or None."""
        start = 0
        for offset, stop in sorted(self.used.items()):
            if offset - start >= size:
                break
            start = max(start, stop)
        if start + size > self.size:
            return None
        self.used[start] = -(-(start + size) // PAGE) * PAGE
        return start

    def give_back(self, offset: int) -> None:
        """Frees a piece."""
        self.used.pop(offset, None)


class ClipLoader:
    """Reads batches of one or several datasets with processes that run until `close`.

    Args:
        datasets: the datasets that the workers know; a new one restarts them.
        workers: number of processes; 0 reads in this process. Threads where processes cannot be forked (Windows,
            macOS).
        pin_memory: return batches in page-locked memory, for a GPU. The ring is page-locked, so nothing is copied.
        hold: number of batches that the caller keeps at a time.
    """

    def __init__(
        self, datasets: Sequence[ClipDataset], *, workers: int = 0, pin_memory: bool = False, hold: int = 1
    ) -> None:
        self.datasets, self.workers, self.pin_memory, self.hold = list(datasets), workers, pin_memory, hold
        self.threads = sys.platform == "darwin" or "fork" not in multiprocessing.get_all_start_methods()
        self._crew: _Crew | None = None

    def batches(self, dataset: ClipDataset, plan: Sequence[list[int]]) -> Iterator[Loaded]:
        """Yields one `Loaded` per planned batch, in order, for the current epoch of the dataset. One pass at a time.

        Raises:
            RuntimeError: a worker failed or was killed.
        """
        if self.workers == 0:
            for indices in plan:
                loaded = dataset[indices]
                yield loaded.pin_memory() if self.pin_memory else loaded
        elif self.threads:
            yield from self._threaded(dataset, plan)
        else:
            yield from self._crew_for(dataset, plan).batches(self.datasets.index(dataset), plan)

    def close(self) -> None:
        """Stops the workers; `batches` starts new ones."""
        if self._crew is not None:
            self._crew.close()
            self._crew = None

    def __enter__(self) -> ClipLoader:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _crew_for(self, dataset: ClipDataset, plan: Sequence[list[int]]) -> _Crew:
        """The workers, restarted if they do not know the dataset or have too little memory for its batches."""
        if self._crew is not None and not self._crew.finalizer.alive:  # it ended with an error
            self._crew = None
        if dataset not in self.datasets:
            self.datasets.append(dataset)
            self.close()
        lengths = vars(dataset).get("lengths")  # if known, only the largest batch has to be measured
        heaviest = plan if lengths is None else sorted(plan, key=lambda batch: sum(lengths[i] for i in batch))[-1:]
        stretch = 1 + dataset.input.augment.temporal_rescale
        sizes = [int(stretch * m.nbytes) for batch in heaviest if (m := _memory(dataset, batch)) is not None]
        clips = sum(map(len, plan)) / max(1, len(plan))
        ahead = 1 + -(-AHEAD * self.workers // max(1, round(clips)))
        largest = -(-max(sizes, default=0) // PAGE) * PAGE
        limit = int(SHARE_OF_RAM * os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
        if self._crew is not None and self._crew.ring.size < min(limit, (1 + self.hold) * largest):
            self.close()
        if self._crew is None:
            size = max(PAGE, min(limit, (ahead + 1 + self.hold) * largest))
            self._crew = _Crew(self.datasets, self.workers, size, self.pin_memory)
        return self._crew

    def _threaded(self, dataset: ClipDataset, plan: Sequence[list[int]]) -> Iterator[Loaded]:
        """`batches` with threads, which need no shared memory but share the interpreter lock."""
        with ThreadPoolExecutor(self.workers) as pool:
            begun: deque[tuple[list[int], list[Any], Any, list[Any]]] = deque()
            waiting = deque(plan)
            try:
                while waiting or begun:
                    while waiting and sum(len(batch) for batch, *_ in begun) < AHEAD * self.workers:
                        batch = waiting.popleft()
                        memory = _memory(dataset, batch)
                        whole = None if memory is None else memory.of()
                        parts = [None] * len(batch) if memory is None or whole is None else memory.parts(whole)
                        clips = [pool.submit(dataset.read, i, dataset.epoch, p) for i, p in zip(batch, parts)]
                        begun.append((batch, clips, whole, parts))
                    batch, clips, whole, parts = begun.popleft()
                    loaded = dataset.assemble(batch, [clip.result() for clip in clips], whole, parts)
                    yield loaded.pin_memory() if self.pin_memory else loaded
            finally:
                pool.shutdown(wait=True, cancel_futures=True)


def _memory(dataset: ClipDataset, batch: list[int]) -> BatchMemory | None:
    return batch_memory([dataset.memory_of(index) for index in batch])


class _Crew:
    """The processes of a `ClipLoader`, their pipes and their memory."""

    def __init__(self, datasets: list[ClipDataset], workers: int, size: int, pin_memory: bool) -> None:
        self.datasets, self.ring = datasets, _Ring(size)
        self.pinned = pin_memory and _lock(self.ring.memory)
        self.copies_pinned = pin_memory and not self.pinned
        fork: Any = multiprocessing.get_context("fork")
        self.pipes: list[connection.Connection] = []
        self.processes: list[Any] = []
        self.in_hand: list[int] = []
        self.begun: dict[int, tuple[_Batch, int]] = {}
        self.numbers = 0
        for _ in range(workers):
            here, there = fork.Pipe()
            arguments = (there, [*self.pipes, here], datasets, self.ring.memory)
            process = fork.Process(target=_serve, args=arguments, daemon=True, name="clip reader")
            process.start()
            there.close()
            self.pipes.append(here)
            self.processes.append(process)
            self.in_hand.append(0)
        self.finalizer = weakref.finalize(self, _end, self.pipes, self.processes)

    def close(self) -> None:
        self.finalizer()

    def batches(self, which: int, plan: Sequence[list[int]]) -> Iterator[Loaded]:
        """See `ClipLoader.batches`."""
        dataset = self.datasets[which]
        epoch, waiting = dataset.epoch, deque(plan)
        begun: deque[_Batch] = deque()
        tasks: deque[_Task] = deque()
        sent: deque[tuple[Any, Any]] = (
            deque()
        )  # batches being copied to the GPU, and the event that signals the end of the copy
        try:
            while waiting or begun:
                while waiting and sum(batch.left for batch in begun) < AHEAD * len(self.pipes):
                    batch = self._begin(which, waiting[0], epoch, tasks, must=not begun and not sent)
                    if batch is None and not begun and sent:
                        sent.popleft()[1].synchronize()
                        continue
                    if batch is None:
                        break  # the ring is full: first return the batches that occupy it
                    waiting.popleft()
                    begun.append(batch)
                self._hand_out(tasks)
                if not begun[0].left:
                    first = begun.popleft()
                    loaded = dataset.assemble(first.indices, first.clips, first.whole, first.parts)
                    del first
                    yield loaded.pin_memory() if self.copies_pinned else loaded
                    if self.pinned:
                        _keep_until_copied(sent, loaded)
                    del loaded
                    continue
                self._receive()
        finally:
            for task in tasks:  # not sent, because the pass was abandoned
                self.begun.pop(task.number)

    def _begin(self, which: int, indices: list[int], epoch: int, tasks: deque[_Task], *, must: bool) -> _Batch | None:
        """Allocates memory for a batch and queues its clips. None if the ring is full, unless it `must` begin."""
        memory = _memory(self.datasets[which], indices)
        offset = None if memory is None else self.ring.take(memory.nbytes)
        if memory is not None and offset is None and not must:
            return None
        batch = _Batch(list(indices), [None] * len(indices), len(indices), parts=[None] * len(indices))
        if memory is not None and offset is not None:
            batch.whole = memory.of(self.ring.memory, offset)
            weakref.finalize(batch.whole, self.ring.give_back, offset).atexit = False
            batch.parts = memory.parts(batch.whole)
        for slot, index in enumerate(indices):
            place, part = None, batch.parts[slot]
            if part is not None and offset is not None:
                place = (offset, part.shape, part.dtype)
                offset += part.nbytes
            tasks.append(_Task(self.numbers, which, index, epoch, place))
            self.begun[self.numbers] = batch, slot
            self.numbers += 1
        return batch

    def _hand_out(self, tasks: deque[_Task]) -> None:
        """Sends clips to the workers with the fewest."""
        while tasks and min(self.in_hand) < IN_HAND:
            worker = self.in_hand.index(min(self.in_hand))
            try:
                self.pipes[worker].send(tasks[0])
            except OSError:
                self._gone(worker)
            tasks.popleft()
            self.in_hand[worker] += 1

    def _receive(self) -> None:
        """Waits for at least one clip."""
        ready = connection.wait([*self.pipes, *(process.sentinel for process in self.processes)])
        for worker, pipe in enumerate(self.pipes):
            if pipe in ready:
                try:
                    number, clip = pipe.recv()
                except (EOFError, OSError):
                    self._gone(worker)
                self.in_hand[worker] -= 1
                batch, slot = self.begun.pop(number)
                if isinstance(clip, str):
                    self.close()
                    raise RuntimeError(f"a loader worker failed at {batch.indices[slot]}:\n{clip}")
                batch.clips[slot] = clip
                batch.left -= 1
        for worker, process in enumerate(self.processes):
            if process.sentinel in ready and not self.pipes[worker].poll():
                self._gone(worker)

    def _gone(self, worker: int) -> None:
        process = self.processes[worker]
        process.join(1)
        code = process.exitcode
        self.close()
        how = f"by signal {signal.Signals(-code).name}" if code is not None and code < 0 else f"with code {code}"
        raise RuntimeError(
            f"a loader worker ended {how}, perhaps for lack of memory; the run can be resumed. Fewer train.workers or "
            f"smaller batches need less memory"
        )


def _end(pipes: list[Any], processes: list[Any]) -> None:
    """Closes the pipes, which ends the workers; terminates those that do not react."""
    for pipe in pipes:
        pipe.close()
    for process in processes:
        process.join(1)
        if process.is_alive():
            process.terminate()
            process.join()


def _serve(pipe: connection.Connection, others: list[Any], datasets: list[ClipDataset], memory: mmap.mmap) -> None:
    """Main loop of a worker: reads clips, writes frames to the ring and sends the rest until the pipe is closed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the main process handles Ctrl-C and closes the pipe
    signal.signal(signal.SIGTERM, signal.SIG_DFL)  # not the handler of the main process
    for other in others:  # inherited ends of other pipes would keep those open after the main process has ended
        other.close()
    torch.set_num_threads(1)
    parent = os.getppid()
    with contextlib.suppress(EOFError, OSError, KeyboardInterrupt):
        while True:
            while not pipe.poll(PARENT_CHECK):
                if os.getppid() != parent:
                    return
            task = pipe.recv()
            place = task.place
            out = None if place is None else np.ndarray(place[1], place[2], memory, place[0])
            try:
                found: Any = datasets[task.dataset].read(task.index, task.epoch, out)
            except Exception:
                found = traceback.format_exc()
            pipe.send((task.number, found))


def _lock(memory: mmap.mmap) -> bool:
    """Page-locks the ring for copies to the GPU; returns whether that worked. Not tested on a GPU."""
    if not torch.cuda.is_available():
        return False
    address = np.frombuffer(memory, np.uint8).ctypes.data
    return int(torch.cuda.cudart().cudaHostRegister(address, len(memory), 0)) == 0


def _keep_until_copied(sent: deque[tuple[Any, Any]], loaded: Loaded) -> None:
    """Keeps the memory of a batch until its copy to the GPU is done; copies from locked memory are asynchronous."""
    event = torch.cuda.Event()
    event.record()
    sent.append((loaded, event))
    while sent and sent[0][1].query():
        sent.popleft()
