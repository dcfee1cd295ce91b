"""What `sightline check` found, read from its JSON, as tables."""

from collections.abc import Mapping, Sequence
from typing import cast

from sightline.reports.facts import Table, tables, text

_ON_ONE_LINE = {
    "modes": "modes",
    "formats": "formats",
    "sides": "shorter side in pixels: smallest, median, largest",
}
_ELSEWHERE = ("problems", "obstacles", "counts", "split_counts")
"""Sentences stand at the top of the page, counts in a table of their own."""


def audit_tables(audit: Mapping[str, object]) -> list[Table]:
    """The facts together, then images by class and split, then each list of files that isn't empty."""
    facts: dict[str, object] = {}
    lists: dict[str, object] = {}
    for name, value in audit.items():
        if name in _ELSEWHERE:
            continue
        if name in _ON_ONE_LINE:
            facts[_ON_ONE_LINE[name]] = text(value)
        elif not isinstance(value, Sequence) or isinstance(value, str):
            facts[name] = value
        elif value:
            lists[name] = value
    return tables({**facts, "images by class": _by_class(audit), **lists})


def problems(audit: Mapping[str, object]) -> list[str]:
    """The audit's own sentences on what stops a training or spoils its figures."""
    found = audit.get("problems", ())
    return [str(sentence) for sentence in cast(Sequence[object], found)]


def has_leaks(audit: Mapping[str, object]) -> bool:
    """Whether equal or nearly equal files lie in more than one split."""
    return bool(audit.get("leaks"))


def _by_class(audit: Mapping[str, object]) -> dict[str, dict[str, int]]:
    """Class, then split, then images; "all" counts those in no split too."""
    totals = cast(Mapping[str, int], audit.get("counts", {}))
    splits = cast(Mapping[str, Mapping[str, int]], audit.get("split_counts", {}))
    return {
        name: {**{split: counts.get(name, 0) for split, counts in splits.items()}, "all": total}
        for name, total in totals.items()
    }
