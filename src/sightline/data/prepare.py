"""prepare(): all that stands between what the user named and the first batch: scan, inspect, audit, split."""

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from sightline.data.audit import DataAudit, audit
from sightline.data.facts import ImageFacts
from sightline.data.inspection import inspect
from sightline.data.phrases import counted
from sightline.data.scan import scan
from sightline.data.split import Splits, split
from sightline.data.table import ImageTable
from sightline.data.trainable import check_trainable
from sightline.errors import DataError
from sightline.files import write_json

if TYPE_CHECKING:
    from sightline.recipe import DataConfig  # importing it takes torch, which nothing here needs

REPLACE = "Remove or replace {them}."
"""What to do about images that can't be read; {them} is one or several."""
LEAVE_OUT = "Remove or replace {them}, or pass --set data.on_unreadable=leave_out."
PUT_BACK = "Put back what was there, or train anew."
"""Where a run goes on, which keeps its images and its recipe."""


@dataclass(frozen=True, eq=False)
class Prepared:
    """Images that are ready to be trained on, and what is known about them."""

    table: ImageTable
    facts: tuple[ImageFacts, ...]
    audit: DataAudit
    """With the splits that are trained with, whoever made them."""
    splits: Splits
    fingerprint: str
    readable: NDArray[np.bool_]
    """(N,) which rows of the table can be used."""


def prepare(
    location: str | Path, config: "DataConfig", seed: int, *, audit_path: Path | None = None, advice: str = LEAVE_OUT
) -> Prepared:
    """Scan, look at every image, and divide them.

    Raises DataError when the images can't be trained on as they are. Unreadable ones are only left out where
    `config.on_unreadable` says so; else the audit that lists them is written to `audit_path`, and the error names it
    and ends with `advice`.
    """
    table = scan(location, label_separator=config.label_separator)
    check_trainable(table)
    facts = inspect(table)
    if config.on_unreadable == "error" and any(fact.error for fact in facts):
        findings = audit(table, facts)
        listing = _first_reasons(findings)
        if audit_path is not None:
            write_json(audit_path, findings.to_json())
            listing = f"listed in {audit_path}"
        raise DataError(_unreadable(findings, listing, advice))
    splits = split(table, facts, val_fraction=config.val_fraction, test_fraction=config.test_fraction, seed=seed)
    if config.max_train_images is not None:
        from sightline.data.fewer import fewer_to_train, rarest_labels  # it takes torch, which nothing else here needs

        splits = fewer_to_train(splits, rarest_labels(table), config.max_train_images, seed)
    findings = audit(table, facts, splits.assigned(table))
    readable = np.array([fact.error is None for fact in facts], dtype=np.bool_)
    return Prepared(table, facts, findings, splits, findings.fingerprint, readable)


def check(location: str | Path, *, label_separator: str | None = None) -> DataAudit:
    """Look at every image and report what would stop or spoil a training. Raises DataError when there are none."""
    table = scan(location, label_separator=label_separator)
    return audit(table, inspect(table))


def readable_table(location: str | Path, *, label_separator: str | None = None) -> ImageTable:
    """The table of images that are only evaluated on. Raises DataError when any of them can't be read."""
    table = scan(location, label_separator=label_separator)
    facts = inspect(table)
    if any(fact.error for fact in facts):
        findings = audit(table, facts)
        raise DataError(_unreadable(findings, _first_reasons(findings), REPLACE))
    return table


def _unreadable(findings: DataAudit, listing: str, advice: str) -> str:
    """How many images can't be read, where they would be missed, and what to do."""
    number = len(findings.unreadable)
    splits = Counter(image.split for image in findings.unreadable)
    held_out = [name for name in ("val", "test") if splits[name]]
    places = [f"{splits[name]:,} {'is' if splits[name] == 1 else 'are'} in the {name} split" for name in held_out]
    where = f"; {' and '.join(places)}" if places else ""
    what_to_do = advice.format(them="it" if number == 1 else "them")
    total = counted(findings.num_images, "image")
    return f"{number:,} of {total} could not be read ({listing}){where}. {what_to_do}"


def _first_reasons(findings: DataAudit) -> str:
    number = len(findings.unreadable)
    first = [f"{image.path!r}: {image.reason}" for image in findings.unreadable[:3]]
    return "; ".join(first) + (f"; and {number - 3:,} more" if number > 3 else "")
