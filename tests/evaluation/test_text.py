import numpy as np
from rich.cells import cell_len
from sklearn import metrics as reference

from sightline.evaluation.metrics import evaluate_logits
from sightline.evaluation.text import classification_report


def report(classes: tuple[str, ...], *, absent: bool = False) -> str:
    random = np.random.default_rng(3)
    targets = random.integers(len(classes) - absent, size=60)
    logits = random.normal(size=(60, len(classes)))
    logits[np.arange(60), targets] += 1
    return classification_report(evaluate_logits(logits, targets, classes))


def test_the_report_reads_like_scikit_learns() -> None:
    random = np.random.default_rng(3)
    targets = random.integers(3, size=60)
    logits = random.normal(size=(60, 3))
    logits[np.arange(60), targets] += 1
    expected = reference.classification_report(
        targets, logits.argmax(axis=1), target_names=["bee", "cat", "dog"], digits=4
    )
    assert report(("bee", "cat", "dog")).split() == expected.split()


def test_a_class_without_images_shows_dashes() -> None:
    row = next(line for line in report(("bee", "cat", "dog"), absent=True).splitlines() if "dog" in line)
    assert row.split() == ["dog", "-", "-", "-", "0"]


def test_columns_line_up_below_wide_characters() -> None:
    lines = report(("猫", "собака", "a very long class name of more than forty characters")).splitlines()
    assert len({cell_len(line) for line in lines if line}) == 1


def test_a_name_with_control_characters_stays_on_its_line() -> None:
    text = report(("bee\n\x1b[31m", "cat"))
    assert "\x1b" not in text
    assert len(text.splitlines()) == len(report(("bee", "cat")).splitlines())
