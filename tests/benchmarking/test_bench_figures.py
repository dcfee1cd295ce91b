from dataclasses import replace

import pytest

from sightline.benchmarking.figures import (
    Accuracy,
    Bench,
    Latency,
    Ratio,
    Row,
    compares_accuracy,
    quality_of,
    unbeaten,
)
from sightline.measuring import Rounds


def row(
    engine: str,
    milliseconds: float,
    *,
    model: str = "model",
    size: int = 100,
    accuracy: float | None = None,
    said: str = "some",
    num_seen: int = 0,
    batch_size: int = 1,
    baseline: bool = False,
) -> Row:
    latency = Latency(calls=9, p50_seconds=milliseconds / 1e3, p95_seconds=None, p99_seconds=None)
    right = None
    if accuracy is not None:
        right = Accuracy(value=accuracy, low=accuracy, high=accuracy, said=said, num_seen=num_seen)
    return Row(
        model=model,
        engine=engine,
        precision="float32",
        batch_size=batch_size,
        threads=2,
        device="cpu",
        size=size,
        latency=latency,
        ratio=Ratio(value=10 / milliseconds, low=1, high=3),
        accuracy=right,
        baseline=baseline,
    )


def bench_of(rows: list[Row], baseline: str = "model, torch, float32") -> Bench:
    return Bench(created="", command="", machine={}, plan={}, baseline=baseline, left_out=[], rows=rows)


def rounds(*medians: float) -> Rounds:
    made = Rounds()
    made.rounds = [[seconds, seconds, 9.0] for seconds in medians]
    return made


def test_a_percentile_that_few_calls_can_t_tell_is_left_out() -> None:
    assert Latency.of([0.1] * 19).p95_seconds is None
    many = Latency.of([number / 100 for number in range(1, 101)])
    assert (many.calls, many.p50_seconds) == (100, pytest.approx(0.505))
    assert many.p95_seconds == pytest.approx(0.9505)
    assert many.p99_seconds == pytest.approx(0.9901)
    assert Latency.of([0.1] * 99).p99_seconds is None


def test_a_ratio_compares_within_rounds_so_that_a_busy_one_cancels() -> None:
    found = Ratio.of(rounds(1.0, 5.0, 1.0), rounds(0.5, 2.5, 0.4))
    assert found is not None
    assert (found.value, found.low, found.high) == (2.0, 2.0, 2.5)
    assert Ratio.of(rounds(), rounds(1.0)) is None


def test_a_row_is_unbeaten_when_none_is_faster_without_being_less_accurate() -> None:
    rows = [row("slow", 10, accuracy=0.9), row("best", 5, accuracy=0.9), row("rough", 2, accuracy=0.8)]
    rows += [row("late", 6, accuracy=0.85)]
    assert [rows[place].engine for place in sorted(unbeaten(rows))] == ["best", "rough"]


def test_without_accuracy_the_size_is_weighed_and_a_format_s_few_bytes_are_no_difference() -> None:
    rows = [row("a", 2, size=1_000_000), row("b", 3, size=1_003_000), row("c", 4, size=250_000)]
    assert [rows[place].engine for place in sorted(unbeaten(rows))] == ["a", "c"]
    assert quality_of(rows[:2]) is None
    assert unbeaten(rows[:2]) == {0}


def test_accuracy_that_is_known_of_some_only_is_not_compared() -> None:
    rows = [row("a", 2, accuracy=0.9), row("b", 3, accuracy=0.95), row("c", 4)]
    assert unbeaten(rows) == {0}


def test_accuracy_on_different_images_is_not_compared_and_the_size_is_weighed() -> None:
    rows = [row("torch", 2, size=400, accuracy=0.7, said="the test split")]
    rows += [row("openvino", 3, size=100, accuracy=0.9, said="256 images"), row("onnx", 4, size=400, accuracy=0.95)]
    assert not compares_accuracy(rows)
    assert [rows[place].engine for place in sorted(unbeaten(rows))] == ["torch", "openvino"]
    assert compares_accuracy([replace(one, accuracy=replace(one.accuracy, said="these")) for one in rows])


def test_the_images_that_accuracy_is_on_are_said() -> None:
    rows = [
        row("torch", 2, model="a", accuracy=0.7),
        row("onnx", 2, model="a", accuracy=0.7),
        row("onnx", 1, model="c"),
    ]
    assert bench_of(rows).measured_on() == ["Accuracy, with its 95% interval, is on some."]
    rows += [row("openvino", 3, model="b", accuracy=0.9, said="others", num_seen=42)]
    assert bench_of(rows).measured_on() == [
        "Accuracy of a is on some.",
        "Accuracy of b is on others.",
        "Accuracy on different images is not compared.",
        "42 of these images are ones that b was trained on: its accuracy flatters it.",
    ]
    assert bench_of([row("onnx", 1)]).measured_on() == []


def test_the_fastest_is_compared_with_the_baseline_although_it_is_called_alike() -> None:
    bench = bench_of([row("torch", 10, baseline=True), row("torch", 5)])
    assert bench.sentences()[0].endswith("with 5 ms: 2.00 times as fast as model, torch, float32 (1.00 to 3.00).")


def test_the_fastest_of_each_group_is_said_with_its_spread() -> None:
    rows = [row("torch", 10, baseline=True), row("onnx", 4), row("torch", 10, batch_size=8, baseline=True)]
    bench = bench_of(rows)
    assert [len(group) for group in bench.groups()] == [2, 1]
    assert bench.sentences() == [
        "Batch 1, 2 threads: onnx is the fastest, with 4 ms: "
        "2.50 times as fast as model, torch, float32 (1.00 to 3.00).",
        "Batch 8, 2 threads: torch is the fastest, with 10 ms.",
    ]
