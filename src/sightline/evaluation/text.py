"""The classification report people know, as text for a terminal."""

from rich.cells import cell_len

from sightline.data.phrases import printable
from sightline.evaluation.metrics import Averages, Evaluation
from sightline.evaluation.multilabel import MultiLabelEvaluation

_COLUMNS = ("precision", "recall", "f1-score", "support")
_WIDTH = 10
_LONGEST_NAME = 40


def classification_report(evaluation: Evaluation) -> str:
    """Precision, recall, F1 and support of each class, then accuracy and the two averages.

    A class without images shows dashes and takes no part in the averages.
    """
    names = [shorten(figures.name, _LONGEST_NAME) for figures in evaluation.classes]
    width = max(map(cell_len, [*names, "weighted avg"]))
    lines = [" " * width + "".join(f"{column:>{_WIDTH}}" for column in _COLUMNS), ""]
    for name, figures in zip(names, evaluation.classes, strict=True):
        recall = figures.recall.value if figures.recall else None
        lines.append(_line(name, width, (figures.precision, recall, figures.f1), figures.support))
    total = evaluation.num_images
    lines += ["", _pad("accuracy", width) + " " * 2 * _WIDTH + _cell(evaluation.accuracy.value) + f"{total:>{_WIDTH}}"]
    lines.append(_average_line("macro avg", width, evaluation.macro, total))
    lines.append(_average_line("weighted avg", width, evaluation.weighted, total))
    return "\n".join(lines) + "\n"


def label_report(evaluation: MultiLabelEvaluation) -> str:
    """Average precision, threshold, precision, recall, F1 and support of each class, then the two averages.

    A class without images shows dashes and takes no part in the averages.
    """
    names = [shorten(figures.name, _LONGEST_NAME) for figures in evaluation.classes]
    width = max(map(cell_len, [*names, "macro avg"]))
    columns = ("avg prec", "threshold", *_COLUMNS)
    lines = [" " * width + "".join(f"{column:>{_WIDTH}}" for column in columns), ""]
    for name, figures in zip(names, evaluation.classes, strict=True):
        ranked = figures.average_precision.value if figures.average_precision else None
        recall = figures.recall.value if figures.recall else None
        cells = (ranked, figures.threshold, figures.precision, recall, figures.f1)
        lines.append(_line(name, width, cells, figures.support))
    total = sum(figures.support for figures in evaluation.classes)
    ranked, macro, micro = evaluation.mean_average_precision.value, evaluation.macro, evaluation.micro
    lines += ["", _line("micro avg", width, (None, None, micro.precision, micro.recall, micro.f1), total)]
    lines.append(_line("macro avg", width, (ranked, None, macro.precision, macro.recall, macro.f1), total))
    return "\n".join(lines) + "\n"


def shorten(name: str, longest: int) -> str:
    """One printable line of at most `longest` cells, cut in the middle: long names often differ at their end."""
    name = printable(name)
    if cell_len(name) <= longest:
        return name
    head, tail = name, name
    while cell_len(head) > longest // 2:
        head = head[:-1]
    while cell_len(tail) > (longest - 1) // 2:
        tail = tail[1:]
    return f"{head}…{tail}"


def _average_line(name: str, width: int, averages: Averages, total: int) -> str:
    return _line(name, width, (averages.precision, averages.recall, averages.f1), total)


def _line(name: str, width: int, values: tuple[float | None, ...], support: int) -> str:
    return _pad(name, width) + "".join(map(_cell, values)) + f"{support:>{_WIDTH}}"


def _cell(value: float | None) -> str:
    return f"{'-' if value is None else f'{value:.4f}':>{_WIDTH}}"


def _pad(name: str, width: int) -> str:
    """Right-aligned by the cells it takes on a terminal: Chinese characters take two each."""
    return " " * (width - cell_len(name)) + name
