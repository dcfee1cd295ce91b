import base64
from collections.abc import Callable
from io import BytesIO

import numpy as np
import pytest
from PIL import Image

from sightline.evaluation.metrics import Evaluation, evaluate_logits
from sightline.reports.confusion import classes_a_dot, heat_map, table_rows

MakeEvaluation = Callable[..., Evaluation]


def pixels(evaluation: Evaluation) -> np.ndarray:
    content = base64.b64decode(heat_map(evaluation).removeprefix("data:image/png;base64,"))
    return np.asarray(Image.open(BytesIO(content)))


def one_mistake(num_classes: int, target: int, predicted: int) -> Evaluation:
    answers = np.arange(num_classes)
    answers[target] = predicted
    return evaluate_logits(
        np.eye(num_classes)[answers], np.arange(num_classes), [f"class {number}" for number in range(num_classes)]
    )


def test_the_table_holds_the_matrix(make_evaluation: MakeEvaluation) -> None:
    evaluation = make_evaluation(("bee", "cat", "dog"))
    rows = table_rows(evaluation)
    assert [[cell.count for cell in row.cells] for row in rows] == evaluation.confusion_matrix.tolist()
    assert [row.support for row in rows] == [part.support for part in evaluation.classes]


def test_right_and_wrong_answers_have_colours_of_their_own() -> None:
    rows = table_rows(one_mistake(3, target=0, predicted=2))
    assert rows[1].cells[1].colour.startswith("rgb(37 99 235")
    assert rows[0].cells[2].colour.startswith("rgb(234 88 12")
    assert rows[0].cells[0].colour == ""


def test_a_long_name_is_shortened_and_kept_whole_beside_it() -> None:
    name = "a class with a name that is much too long, second kind"
    row = table_rows(evaluate_logits(np.eye(2), np.arange(2), ["bee", name]))[1]
    assert row.target == name
    assert len(row.label) == 24
    assert row.label.endswith("second kind")


@pytest.mark.parametrize("num_classes", [41, 120, 1000])
def test_a_single_mistake_is_seen_on_the_heat_map(num_classes: int) -> None:
    evaluation = one_mistake(num_classes, target=3, predicted=num_classes - 1)
    map_pixels = pixels(evaluation)
    side = len(map_pixels)
    dot = side // -(-num_classes // classes_a_dot(evaluation))
    corner = map_pixels[3 // classes_a_dot(evaluation) * dot, side - 1]
    assert corner[:3].tolist() == [234, 88, 12]
    assert corner[3] > 100
    assert side >= 320
    assert map_pixels[side // 2, side // 4][3] == 0
