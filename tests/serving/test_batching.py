import asyncio
import threading
import time
from collections.abc import Callable, Coroutine
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from sightline.errors import UnreadableImageError
from sightline.serving.batching import LARGE_BYTES, LARGE_BYTES_IN_LOOP, SHORT_SECONDS, Batcher
from sightline.serving.decoding import Source
from sightline.serving.limits import Batching, Limits
from sightline.serving.metrics import Metrics
from sightline.serving.problems import Problem, RequestError
from sightline.serving.work import Model

SOON = 20.0
"""Seconds; longer than any test."""
EACH = pytest.mark.parametrize("decode_threads", [2, 0], ids=["beside the model", "in its thread"])


class Recorder:
    """A model whose pixels are the image's first byte; it answers that byte, when it may."""

    def __init__(self) -> None:
        self.runs: list[list[int]] = []
        self.decoded: list[int] = []
        self.may_run = threading.Event()
        self.may_run.set()
        self.running = threading.Event()

    def decode(self, source: Source) -> NDArray[np.uint8]:
        assert isinstance(source, bytes)
        self.decoded.append(source[0])
        if source == b"\0":
            raise UnreadableImageError("it is zero")
        return np.full((3, 1, 1), source[0], np.uint8)

    def probabilities(self, pixels: NDArray[np.uint8]) -> NDArray[np.float64]:
        self.running.set()
        assert self.may_run.wait(SOON)
        self.runs.append(pixels[:, 0, 0, 0].tolist())
        return pixels[:, :1, 0, 0].astype(np.float64)


def with_batcher(
    recorder: Any, scenario: Callable[[Batcher], Coroutine[Any, Any, None]], *, max_queue: int = 64, **batching: Any
) -> None:
    async def main() -> None:
        limits = Limits(max_queue=max_queue, max_images=min(64, max_queue))
        model = Model("m", recorder.decode, recorder.probabilities)
        settings = Batching(**{"decode_threads": 2} | batching)
        batcher = Batcher(model, batching=settings, limits=limits, metrics=Metrics(), cores=1)
        await scenario(batcher)
        async with asyncio.timeout(SOON):
            await batcher.close()

    asyncio.run(main())


def deadline(seconds: float = SOON) -> float:
    return time.monotonic() + seconds


async def until(met: Callable[[], bool]) -> None:
    async with asyncio.timeout(SOON):
        while not met():
            await asyncio.sleep(0.001)


@EACH
def test_a_lone_image_does_not_wait_for_others(decode_threads: int) -> None:
    async def scenario(batcher: Batcher) -> None:
        start = time.monotonic()
        [answer] = await batcher.submit([b"\7"], deadline=deadline()).future
        assert isinstance(answer, np.ndarray)
        assert answer.tolist() == [7]
        assert time.monotonic() - start < 5

    with_batcher(Recorder(), scenario, max_wait_seconds=10.0, decode_threads=decode_threads)


def test_what_arrives_during_a_run_is_run_together_up_to_the_largest_batch() -> None:
    recorder = Recorder()

    async def scenario(batcher: Batcher) -> None:
        recorder.may_run.clear()
        first = batcher.submit([b"\1"], deadline=deadline())
        await until(recorder.running.is_set)
        others = [batcher.submit([bytes([number])], deadline=deadline()) for number in range(2, 8)]
        await until(lambda: len(recorder.decoded) == 7)
        recorder.may_run.set()
        rows = await asyncio.gather(*(ticket.future for ticket in [first, *others]))
        assert [row[0].tolist() for row in rows] == [[float(number)] for number in range(1, 8)]  # type: ignore[union-attr]

    with_batcher(recorder, scenario, max_batch=4)
    assert recorder.runs[0] == [1]
    assert max(map(len, recorder.runs)) == 4


@EACH
def test_a_bad_image_fails_alone_and_in_its_place(decode_threads: int) -> None:
    async def scenario(batcher: Batcher) -> None:
        answers = await batcher.submit([b"\1", b"\0", b"\3"], deadline=deadline()).future
        assert answers[1] == Problem("unreadable_image", "it is zero")
        assert [answers[0].tolist(), answers[2].tolist()] == [[1], [3]]  # type: ignore[union-attr]

    with_batcher(Recorder(), scenario, decode_threads=decode_threads)


def test_beyond_the_queue_a_request_is_told_when_to_come_back() -> None:
    recorder = Recorder()

    async def scenario(batcher: Batcher) -> None:
        recorder.may_run.clear()
        accepted = [batcher.submit([b"\1", b"\2"], deadline=deadline()) for _ in range(2)]
        with pytest.raises(RequestError) as caught:
            batcher.submit([b"\3"], deadline=deadline())
        assert caught.value.problem.code == "overloaded"
        assert int(caught.value.headers["retry-after"]) >= 1
        recorder.may_run.set()
        await asyncio.gather(*(ticket.future for ticket in accepted))
        assert batcher.waiting == 0
        await batcher.submit([b"\3"], deadline=deadline()).future

    with_batcher(recorder, scenario, max_queue=4)


def test_a_queue_that_would_take_too_long_is_full() -> None:
    recorder = Recorder()

    async def main() -> None:
        limits = Limits(max_queue_seconds=0.05)
        model = Model("m", recorder.decode, recorder.probabilities)
        batcher = Batcher(model, batching=Batching(max_batch=1), limits=limits, metrics=Metrics(), cores=1)
        recorder.may_run.clear()
        first = batcher.submit([b"\1"], deadline=deadline())
        await asyncio.sleep(0.2)  # the pace: 0.2 seconds an image
        recorder.may_run.set()
        await first.future
        recorder.may_run.clear()
        waiting = batcher.submit([b"\2", b"\3"], deadline=deadline())  # an empty queue takes whatever comes
        with pytest.raises(RequestError, match="2 images are waiting, for about"):
            batcher.submit([b"\4"], deadline=deadline())
        recorder.may_run.set()
        await waiting.future
        await batcher.close()

    asyncio.run(main())


@EACH
def test_work_whose_deadline_is_over_or_whose_client_left_is_not_run(decode_threads: int) -> None:
    recorder = Recorder()

    async def scenario(batcher: Batcher) -> None:
        recorder.may_run.clear()
        first = batcher.submit([b"\1"], deadline=deadline())
        await until(recorder.running.is_set)
        late = batcher.submit([b"\2"], deadline=deadline(-1))
        left = batcher.submit([b"\3"] * 40, deadline=deadline())
        batcher.drop(left)
        kept = batcher.submit([b"\4"], deadline=deadline())
        recorder.may_run.set()
        [answer] = await late.future
        assert isinstance(answer, Problem)
        assert answer.code == "deadline_exceeded"
        await asyncio.gather(first.future, kept.future)
        await until(lambda: batcher.waiting == 0)

    with_batcher(recorder, scenario, decode_threads=decode_threads)
    assert [number for run in recorder.runs for number in run] == [1, 4]


def test_images_are_decoded_beside_each_other() -> None:
    recorder = Recorder()
    together = threading.Barrier(2)

    def decode(_source: Source) -> NDArray[np.uint8]:
        together.wait(SOON)  # ends only when two threads are here
        return np.zeros((3, 1, 1), np.uint8)

    recorder.decode = decode  # type: ignore[method-assign]

    async def scenario(batcher: Batcher) -> None:
        await batcher.submit([b"\1", b"\2"], deadline=deadline()).future

    with_batcher(recorder, scenario)


def test_on_a_single_core_small_images_are_decoded_where_the_model_runs_and_large_ones_beside_it() -> None:
    recorder = Recorder()
    where: dict[int, int] = {}
    read, run = recorder.decode, recorder.probabilities

    def decode(source: Source) -> NDArray[np.uint8]:
        where[len(source)] = threading.get_ident()
        return read(source)

    def probabilities(pixels: NDArray[np.uint8]) -> NDArray[np.float64]:
        where[0] = threading.get_ident()
        return run(pixels)

    recorder.decode, recorder.probabilities = decode, probabilities  # type: ignore[method-assign]

    async def scenario(batcher: Batcher) -> None:
        large = b"\2" * (LARGE_BYTES + 1)
        answers = await batcher.submit([b"\1", large, b"\3\3"], deadline=deadline()).future
        assert [answer.tolist() for answer in answers] == [[1], [2], [3]]  # type: ignore[union-attr]

    with_batcher(recorder, scenario, decode_threads=0)
    assert where[0] == where[1] == where[2] != where[LARGE_BYTES + 1]


def test_decoding_does_not_run_far_ahead_of_the_model() -> None:
    recorder = Recorder()

    async def scenario(batcher: Batcher) -> None:
        recorder.may_run.clear()
        ticket = batcher.submit([b"\1"] * 60, deadline=deadline())
        await until(recorder.running.is_set)
        await asyncio.sleep(0.05)
        assert len(recorder.decoded) <= 2 + 2 * 2 + 2
        recorder.may_run.set()
        assert len(await ticket.future) == 60

    with_batcher(recorder, scenario, max_batch=2)


def test_who_leaves_with_all_that_is_decoded_holds_nobody_up() -> None:
    recorder = Recorder()

    async def scenario(batcher: Batcher) -> None:
        recorder.may_run.clear()
        leaving = batcher.submit([b"\1"] * 12, deadline=deadline())
        await until(lambda: len(recorder.decoded) >= 5)  # as far ahead of the model as it goes
        await asyncio.sleep(0.05)
        staying = batcher.submit([b"\2"], deadline=deadline())
        await asyncio.sleep(0.05)  # the decoders have seen it, and that there is no room
        batcher.drop(leaving)
        recorder.may_run.set()
        async with asyncio.timeout(SOON / 4):
            [answer] = await staying.future
        assert isinstance(answer, np.ndarray)
        assert answer.tolist() == [2]

    with_batcher(recorder, scenario, max_batch=2)


def test_a_model_that_fails_answers_its_batch_and_goes_on() -> None:
    recorder = Recorder()
    answers = recorder.probabilities

    def fail(_pixels: NDArray[np.uint8]) -> NDArray[np.float64]:
        recorder.probabilities = answers  # type: ignore[method-assign]
        raise RuntimeError("out of memory")

    def not_a_number(pixels: NDArray[np.uint8]) -> NDArray[np.float64]:
        recorder.probabilities = fail  # type: ignore[method-assign]
        return np.full((len(pixels), 1), np.nan)

    async def main() -> None:
        def compute(pixels: NDArray[np.uint8]) -> NDArray[np.float64]:
            return recorder.probabilities(pixels)

        model = Model("m", recorder.decode, compute)
        batcher = Batcher(model, batching=Batching(), limits=Limits(), metrics=Metrics(), cores=1)
        recorder.probabilities = not_a_number  # type: ignore[method-assign]
        codes = [(await batcher.submit([b"\1"], deadline=deadline()).future)[0] for _ in range(3)]
        assert [getattr(code, "code", "answered") for code in codes] == ["model_failed", "model_failed", "answered"]
        await batcher.close()

    asyncio.run(main())


@EACH
def test_closing_waits_for_what_was_accepted_and_ends_the_threads(decode_threads: int) -> None:
    recorder = Recorder()

    async def scenario(batcher: Batcher) -> None:
        tickets = [batcher.submit([bytes([number])], deadline=deadline()) for number in range(1, 20)]
        await batcher.close()
        assert all(ticket.future.done() for ticket in tickets)

    with_batcher(recorder, scenario, decode_threads=decode_threads)
    until_gone = time.monotonic() + SOON
    while any(thread.name == "sightline-m" for thread in threading.enumerate()):
        assert time.monotonic() < until_gone
        time.sleep(0.01)


def test_heat_maps_are_run_when_no_prediction_waits() -> None:
    recorder = Recorder()

    async def scenario(batcher: Batcher) -> None:
        recorder.may_run.clear()
        first = batcher.submit([b"\1"], deadline=deadline())
        await until(recorder.running.is_set)
        heat = batcher.submit_background(np.full((20, 3, 1, 1), 9, np.uint8), deadline=deadline())
        prediction = batcher.submit([b"\2"], deadline=deadline())
        await until(lambda: len(recorder.decoded) == 2)
        recorder.may_run.set()
        await asyncio.gather(first.future, prediction.future, heat.future)

    with_batcher(recorder, scenario)
    assert recorder.runs[:2] == [[1], [2]]
    assert max(map(len, recorder.runs)) == 8


def with_slow_batcher(
    recorder: Recorder, limits: Limits, scenario: Callable[[Batcher], Coroutine[Any, Any, None]]
) -> None:
    async def main() -> None:
        model = Model("m", recorder.decode, recorder.probabilities)
        batcher = Batcher(model, batching=Batching(max_batch=1), limits=limits, metrics=Metrics(), cores=1)
        await scenario(batcher)
        recorder.may_run.set()
        await batcher.close()

    asyncio.run(main())


def test_a_heat_map_takes_no_more_of_the_queue_than_one_run() -> None:
    recorder = Recorder()

    async def scenario(batcher: Batcher) -> None:
        recorder.may_run.clear()
        first = batcher.submit([b"\1"], deadline=deadline())
        await asyncio.sleep(0.1)  # the pace: 0.1 seconds an image
        recorder.may_run.set()
        await first.future
        recorder.may_run.clear()
        heat = batcher.submit_background(np.full((65, 3, 1, 1), 9, np.uint8), deadline=deadline())
        predictions = [batcher.submit([b"\2"], deadline=deadline()) for _ in range(8)]
        with pytest.raises(RequestError, match="16 images are waiting"):
            batcher.submit([b"\3"], deadline=deadline())
        assert batcher.waiting == 65 + 8
        recorder.may_run.set()
        await asyncio.gather(heat.future, *(ticket.future for ticket in predictions))
        assert batcher.waiting == batcher._in_background == 0

    with_slow_batcher(recorder, Limits(max_queue=16, max_images=16, max_queue_seconds=4), scenario)


def test_a_heat_map_that_is_dropped_takes_nothing_of_the_queue() -> None:
    recorder = Recorder()

    async def scenario(batcher: Batcher) -> None:
        recorder.may_run.clear()
        running = batcher.submit([b"\1"], deadline=deadline())
        await until(recorder.running.is_set)
        batcher.drop(batcher.submit_background(np.full((65, 3, 1, 1), 9, np.uint8), deadline=deadline()))
        accepted = batcher.submit([b"\2"] * 3, deadline=deadline())
        recorder.may_run.set()
        await asyncio.gather(running.future, accepted.future)

    with_slow_batcher(recorder, Limits(max_queue=4, max_images=4), scenario)


def test_the_time_before_a_heat_map_is_not_taken_for_its_pace() -> None:
    recorder = Recorder()

    async def scenario(batcher: Batcher) -> None:
        await asyncio.sleep(0.6)
        with batcher.kept():
            await batcher.submit_background(np.full((1, 3, 1, 1), 9, np.uint8), deadline=deadline()).future
            recorder.may_run.clear()
            for number in (b"\1", b"\2"):
                batcher.submit([number], deadline=deadline())

    with_slow_batcher(recorder, Limits(max_queue_seconds=0.5), scenario)


def test_a_batcher_that_is_kept_does_not_close() -> None:
    async def scenario(batcher: Batcher) -> None:
        with batcher.kept():
            closing = asyncio.create_task(batcher.close())
            await asyncio.sleep(0.05)
            ticket = batcher.submit_background(np.full((2, 3, 1, 1), 9, np.uint8), deadline=deadline())
            assert len(await ticket.future) == 2
            assert not closing.done()
        await closing

    with_batcher(Recorder(), scenario)


def with_loop_batcher(
    recorder: Recorder, scenario: Callable[[Batcher], Coroutine[Any, Any, None]], **batching: Any
) -> None:
    """A model whose runs are so short that the event loop makes them itself."""

    async def main() -> None:
        model = Model("m", recorder.decode, recorder.probabilities, run_seconds=SHORT_SECONDS)
        batcher = Batcher(model, batching=Batching(**batching), limits=Limits(), metrics=Metrics(), cores=1)
        await scenario(batcher)
        async with asyncio.timeout(SOON):
            await batcher.close()

    asyncio.run(main())


def test_on_a_single_core_the_event_loop_runs_a_quick_model_and_decodes_what_is_small() -> None:
    recorder = Recorder()
    where: dict[int, int] = {}
    read, run = recorder.decode, recorder.probabilities

    def decode(source: Source) -> NDArray[np.uint8]:
        where[len(source)] = threading.get_ident()
        return read(source)

    def probabilities(pixels: NDArray[np.uint8]) -> NDArray[np.float64]:
        where[0] = threading.get_ident()
        return run(pixels)

    recorder.decode, recorder.probabilities = decode, probabilities  # type: ignore[method-assign]

    async def scenario(batcher: Batcher) -> None:
        large = b"\2" * (LARGE_BYTES_IN_LOOP + 1)
        answers = await batcher.submit([b"\1", large, b"\0", b"\3"], deadline=deadline()).future
        assert [answer.tolist() for answer in (answers[0], answers[1], answers[3])] == [[1], [2], [3]]  # type: ignore[union-attr]
        assert answers[2] == Problem("unreadable_image", "it is zero")

    with_loop_batcher(recorder, scenario)
    assert where[0] == where[1] == threading.get_ident() != where[LARGE_BYTES_IN_LOOP + 1]


def test_what_has_arrived_by_then_is_run_together() -> None:
    recorder = Recorder()

    async def scenario(batcher: Batcher) -> None:
        tickets = [batcher.submit([bytes([number])], deadline=deadline()) for number in range(1, 7)]
        rows = await asyncio.gather(*(ticket.future for ticket in tickets))
        assert [row[0].tolist() for row in rows] == [[float(number)] for number in range(1, 7)]  # type: ignore[union-attr]

    with_loop_batcher(recorder, scenario, max_batch=4)
    assert recorder.runs == [[1, 2, 3, 4], [5, 6]]


def test_what_arrives_turn_by_turn_is_waited_for_until_a_turn_brings_nothing() -> None:
    recorder = Recorder()

    async def scenario(batcher: Batcher) -> None:
        tickets: list[Any] = []
        for number in range(1, 4):
            tickets.append(batcher.submit([bytes([number])], deadline=deadline()))
            await asyncio.sleep(0)
        await asyncio.gather(*(ticket.future for ticket in tickets))

    with_loop_batcher(recorder, scenario)
    assert recorder.runs == [[1, 2, 3]]


def test_between_two_runs_the_event_loop_has_as_long_for_everything_else() -> None:
    recorder = Recorder()
    run = recorder.probabilities
    turns: list[int] = []

    def probabilities(pixels: NDArray[np.uint8]) -> NDArray[np.float64]:
        time.sleep(0.03)
        return run(pixels)

    recorder.probabilities = probabilities  # type: ignore[method-assign]

    async def scenario(batcher: Batcher) -> None:
        def accept() -> None:  # a connection in each turn of the loop, without an end
            time.sleep(0.001)
            turns.append(len(recorder.runs))
            if len(recorder.runs) < 3:
                asyncio.get_running_loop().call_soon(accept)

        accept()
        tickets = [batcher.submit([bytes([number])], deadline=deadline()) for number in range(1, 4)]
        await asyncio.gather(*(ticket.future for ticket in tickets))

    with_loop_batcher(recorder, scenario, max_batch=1)
    assert turns.count(1) >= 4  # between the first run and the second
    assert turns.count(2) >= 4


def test_answers_are_sent_before_the_event_loop_runs_again() -> None:
    recorder = Recorder()
    happened: list[str] = []
    run = recorder.probabilities

    def probabilities(pixels: NDArray[np.uint8]) -> NDArray[np.float64]:
        happened.append("run")
        return run(pixels)

    recorder.probabilities = probabilities  # type: ignore[method-assign]

    async def scenario(batcher: Batcher) -> None:
        async def ask(number: int) -> None:
            await batcher.submit([bytes([number])], deadline=deadline()).future
            happened.append("answered")
            asyncio.get_running_loop().call_soon(happened.append, "sent")

        await asyncio.gather(*(ask(number) for number in range(1, 4)))

    with_loop_batcher(recorder, scenario, max_batch=1)
    assert happened[:5] == ["run", "answered", "sent", "run", "answered"]


def test_a_heat_map_and_late_or_dropped_work_go_through_the_event_loop_too() -> None:
    recorder = Recorder()

    async def scenario(batcher: Batcher) -> None:
        heat = batcher.submit_background(np.full((5, 3, 1, 1), 9, np.uint8), deadline=deadline())
        late = batcher.submit([b"\2"], deadline=deadline(-1))
        batcher.drop(batcher.submit([b"\3"], deadline=deadline()))
        kept = batcher.submit([b"\4"], deadline=deadline())
        [answer] = await late.future
        assert isinstance(answer, Problem)
        assert answer.code == "deadline_exceeded"
        await asyncio.gather(heat.future, kept.future)
        assert batcher.waiting == 0

    with_loop_batcher(recorder, scenario, max_batch=2)
    assert recorder.runs == [[4], [9, 9], [9, 9], [9]]


def test_a_slow_model_has_a_thread_of_its_own_on_a_single_core_too() -> None:
    recorder = Recorder()

    async def scenario(batcher: Batcher) -> None:
        recorder.may_run.clear()
        ticket = batcher.submit([b"\1"], deadline=deadline())
        await until(recorder.running.is_set)  # the event loop is free meanwhile
        recorder.may_run.set()
        await ticket.future

    with_batcher(recorder, scenario, decode_threads=0)
