"""Dynamic batching: threads decode images, one thread runs the model on whatever is decoded by then.

On a single core, where threads could only take slices from each other, that one thread decodes what it runs; and where
a run is short, there is no such thread: the event loop runs the model itself, between looking for what has arrived.
Images in large files are still decoded beside it, so that nobody waits for the whole of one.

A run starts when it is full, when nothing else is on its way, or when its first image has waited `max_wait_seconds`:
a lone request on an idle server never waits. Each image fails alone, in decoding; work whose client has gone or whose
deadline is over is dropped before it is decoded and again before it is run. The queue is bounded.

A `Batcher` belongs to an event loop: `submit` and `drop` are called there, and answers arrive there.
"""

import asyncio
import logging
import threading
import time
from collections import deque
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from math import ceil

import numpy as np
from numpy.typing import NDArray

from sightline.errors import UnreadableImageError
from sightline.serving.decoding import Source
from sightline.serving.limits import Batching, Limits
from sightline.serving.loop_turns import Turns
from sightline.serving.metrics import Metrics
from sightline.serving.problems import Problem, RequestError
from sightline.serving.work import Answer, Model, Ticket, Work

BACKGROUND_BATCH = 8
"""Images of a heat map in one run: what a prediction that arrives meanwhile waits for."""

LARGE_BYTES = 1_000_000
"""Of a file that is never decoded in the model's own thread."""

SHORT_SECONDS = 0.05
"""Of a run that the event loop may wait for: a refusal, or a look at the server's health, is answered as much later."""

LARGE_BYTES_IN_LOOP = 250_000
"""Of a file that the event loop does not decode itself."""

_DROPPED = Problem("deadline_exceeded", "The request was not answered in time.")
_log = logging.getLogger("sightline.serving")


class Batcher:
    """Runs one model on what many requests send."""

    def __init__(self, model: Model, *, batching: Batching, limits: Limits, metrics: Metrics, cores: int) -> None:
        """The model runs in the event loop where there is one core and `model.run_seconds` are short."""
        self._model = model
        self._most = batching.largest  # images in a run
        self._max_wait_seconds = batching.max_wait_seconds
        self._limits = limits
        self._loop = asyncio.get_running_loop()
        self._waiting = 0  # images accepted and not yet answered; the event loop's alone
        self._in_background = 0  # how many of them are heat maps'
        self._keepers = 0
        self._pace = 0.0  # seconds for an image while there is always one waiting, a moving average
        self._paced_at = 0.0  # when the last one was answered, or the first one accepted
        self._idle = asyncio.Event()
        self._idle.set()

        lock = threading.Lock()  # guards what follows
        self._has_arrived = threading.Condition(lock)
        self._has_ready = threading.Condition(lock)
        self._arrived: deque[Work] = deque()
        self._decoding = 0
        self._ready: deque[Work] = deque()
        self._background: deque[Work] = deque()
        self._closed = False

        alone = cores == 1 and not batching.decode_threads
        self._in_loop = alone and model.run_seconds <= SHORT_SECONDS
        self._is_scheduled = False  # the event loop's next run; the event loop's alone, and so is what follows
        self._turns = Turns(model.run_seconds)
        self._background_batch = min(BACKGROUND_BATCH, self._most) if self._in_loop else BACKGROUND_BATCH
        self._decoded_with_run = (LARGE_BYTES_IN_LOOP if self._in_loop else LARGE_BYTES) if alone else 0  # bytes

        name = model.name
        self._queue_gauge = metrics.queue.labels(name)
        self._batch_sizes = metrics.batch_size.labels(name)
        self._model_seconds = metrics.model_seconds.labels(name)
        self._decode_seconds = metrics.decode_seconds.labels(name)
        decoders = batching.decode_threads or min(8, cores + 1)
        targets = [self._decode_forever] * decoders + [self._run_forever] * (not self._in_loop)
        self._threads = [threading.Thread(target=target, name=f"sightline-{name}", daemon=True) for target in targets]
        for thread in self._threads:
            thread.start()

    @property
    def waiting(self) -> int:
        """Images accepted and not yet answered."""
        return self._waiting

    def submit(self, sources: Sequence[Source], *, deadline: float) -> Ticket:
        """Accept a request's images. Its future gets an answer for each, in order.

        Raises RequestError (overloaded) where they don't fit the queue.
        """
        self._admit(len(sources))
        ticket = self._ticket(len(sources), deadline)
        self._add(len(sources))
        now = time.monotonic()
        with self._has_arrived:
            for place, source in enumerate(sources):
                if _num_bytes(source) <= self._decoded_with_run:
                    self._ready.append(Work(ticket, place, source, ready_at=now))
                    self._wake()
                else:
                    self._arrived.append(Work(ticket, place, source))
                    self._has_arrived.notify()
        return ticket

    def submit_background(self, pixels: NDArray[np.uint8], *, deadline: float) -> Ticket:
        """Accept pixels (B, 3, S, S) that are run when nothing else is: heat maps."""
        ticket = self._ticket(len(pixels), deadline, background=True)
        self._add(len(pixels), background=True)
        with self._has_ready:
            self._background.extend(Work(ticket, place, None, row) for place, row in enumerate(pixels))
            self._wake()
        return ticket

    @contextmanager
    def kept(self) -> Generator[None]:
        """Within the block `close` waits: for whoever will submit later."""
        self._keepers += 1
        self._note_idleness()
        try:
            yield
        finally:
            self._keepers -= 1
            self._note_idleness()

    def drop(self, ticket: Ticket) -> None:
        """Nobody waits for it any more: what isn't begun is forgotten."""
        ticket.dropped = True
        with self._has_arrived:
            forgotten = 0
            for line in (self._arrived, self._ready, self._background):
                kept = [work for work in line if work.ticket is not ticket]
                forgotten += len(line) - len(kept)
                line.clear()
                line.extend(kept)
            self._has_arrived.notify_all()  # there may be room for what waits to be decoded
            self._wake()
        self._add(-forgotten, background=ticket.background)

    async def close(self) -> None:
        """Answer what was accepted, then end the threads."""
        await self._idle.wait()
        with self._has_arrived:
            self._closed = True
            self._has_arrived.notify_all()
            self._has_ready.notify_all()

    def _ticket(self, count: int, deadline: float, *, background: bool = False) -> Ticket:
        return Ticket(self._loop.create_future(), deadline, [_DROPPED] * count, count, background)

    def _admit(self, count: int) -> None:
        """Raises RequestError where `count` more images don't fit, or would wait for too long.

        Of heat maps they wait for one run at most.
        """
        before = self._waiting - self._in_background + min(self._in_background, self._background_batch)
        ahead = before * self._pace
        limits = self._limits
        if before + count > limits.max_queue or ahead > limits.max_queue_seconds:
            sentence = f"{before} images are waiting, for about {ahead:.1f} seconds. Try again later."
            raise RequestError(Problem("overloaded", sentence), {"retry-after": str(min(max(ceil(ahead / 2), 1), 60))})

    def _add(self, count: int, *, background: bool = False) -> None:
        if not self._waiting:
            self._paced_at = time.monotonic()
        self._waiting += count
        if background:
            self._in_background += count
        self._queue_gauge.set(self._waiting)
        self._note_idleness()

    def _note_idleness(self) -> None:
        if self._waiting or self._keepers:
            self._idle.clear()
        else:
            self._idle.set()

    def _decode_forever(self) -> None:
        ahead = 2 * self._most  # what is decoded waits in memory, and may be dropped after all
        while True:
            with self._has_arrived:
                while not self._closed and (not self._arrived or len(self._ready) >= ahead):
                    self._has_arrived.wait()
                if self._closed:
                    return
                work = self._arrived.popleft()
                self._decoding += 1
            problem = self._decode(work)
            with self._has_ready:
                self._decoding -= 1
                if problem is None:
                    work.ready_at = time.monotonic()
                    self._ready.append(work)
                if self._in_loop:
                    self._loop.call_soon_threadsafe(self._wake)
                else:
                    self._has_ready.notify()
            if problem is not None:
                self._finish([(work, problem)])

    def _decode(self, work: Work) -> Problem | None:
        """Fill in the pixels, or say why there are none."""
        if work.over():
            return _DROPPED
        assert work.source is not None
        start = time.perf_counter()
        try:
            work.pixels = self._model.decode(work.source)
        except UnreadableImageError as error:
            return Problem("unreadable_image", str(error))
        except Exception:  # noqa: BLE001  # this thread's outermost handler: the image fails alone, the thread lives
            _log.exception("decoding failed")
            return Problem("internal", "The image could not be decoded, by a fault of the server.")
        finally:
            work.source = None  # a file's bytes are not kept until the answer
        self._decode_seconds.observe(time.perf_counter() - start)
        return None

    def _wake(self) -> None:
        """There is, or may be, something to run. Called in the event loop."""
        if not self._in_loop:
            self._has_ready.notify()
        elif not self._is_scheduled:
            self._is_scheduled = True
            self._loop.call_soon(self._run_here)

    def _run_here(self) -> None:
        """One run in the event loop: when it had nothing else to do, or did something else for as long as a run takes.

        Between two runs answers are sent, and connections accepted, of which a turn of the loop may take only one.
        """
        self._is_scheduled = False
        with self._has_ready:
            if not self._ready and not self._background:
                self._turns.rest()
                return
            if not self._turns.should_run(len(self._ready)):
                self._wake()
                return
            batch = self._take()
        begun = time.perf_counter()
        for finished in self._answers(batch):
            self._deliver(finished)
        self._turns.ran(time.perf_counter() - begun)
        self._wake()

    def _run_forever(self) -> None:
        while True:
            with self._has_ready:
                while (seconds := self._time_to_wait()) != 0 and not self._closed:
                    self._has_ready.wait(seconds)
                if self._closed:
                    return
                batch = self._take()
            for finished in self._answers(batch):
                self._finish(finished)

    def _answers(self, batch: Sequence[Work]) -> Generator[list[tuple[Work, Answer]]]:
        """What can be said at once, then what the model says."""
        over, live = list[tuple[Work, Answer]](), list[Work]()
        for work in batch:  # asked once: a deadline that passes between two looks would leave the work in neither
            problem = self._decode(work) if work.pixels is None else _DROPPED if work.over() else None
            if problem is None:
                live.append(work)
            else:
                over.append((work, problem))
        if over:
            yield over
        if live:
            yield self._run(live)

    def _time_to_wait(self) -> float | None:
        """Seconds until a run should start at the latest; 0 is now, None when there is nothing to run."""
        if not self._ready:
            return 0 if self._background and not self._decoding and not self._arrived else None
        if len(self._ready) >= self._most or not (self._decoding or self._arrived):
            return 0
        waited = time.monotonic() - self._ready[0].ready_at
        return max(0.0, self._max_wait_seconds - waited)

    def _take(self) -> list[Work]:
        held_up = bool(self._arrived) and len(self._ready) >= 2 * self._most
        line, size = (self._ready, self._most) if self._ready else (self._background, self._background_batch)
        taken = [line.popleft() for _ in range(min(size, len(line)))]
        if held_up:
            self._has_arrived.notify_all()
        return taken

    def _run(self, batch: list[Work]) -> list[tuple[Work, Answer]]:
        start = time.perf_counter()
        try:
            rows = self._model.probabilities(np.stack([work.pixels for work in batch if work.pixels is not None]))
        except Exception:  # noqa: BLE001  # this thread's outermost handler: engines raise what they like
            _log.exception("the model failed")
            failed = Problem("model_failed", "The model could not compute an answer; the server's log says why.")
            return [(work, failed) for work in batch]
        seconds = time.perf_counter() - start
        self._model_seconds.observe(seconds)
        self._batch_sizes.observe(len(batch))
        if not np.isfinite(rows).all():
            failed = Problem("model_failed", "The model's answer is not a number.")
            return [(work, failed) for work in batch]
        return list(zip(batch, rows, strict=True))

    def _finish(self, finished: Sequence[tuple[Work, Answer]]) -> None:
        self._loop.call_soon_threadsafe(self._deliver, finished)

    def _deliver(self, finished: Sequence[tuple[Work, Answer]]) -> None:
        answered = sum(not isinstance(answer, Problem) for _, answer in finished)
        if answered:
            now = time.monotonic()
            pace, self._paced_at = (now - self._paced_at) / answered, now
            self._pace = 0.8 * self._pace + 0.2 * pace if self._pace else pace
        for work, answer in finished:
            ticket = work.ticket
            ticket.answers[work.place] = answer
            ticket.remaining -= 1
            if ticket.remaining == 0 and not ticket.future.done():
                ticket.future.set_result(ticket.answers)
        self._add(-len(finished), background=finished[0][0].ticket.background)  # a run is of one kind


def _num_bytes(source: Source) -> int:
    return len(source) if isinstance(source, bytes) else source.nbytes
