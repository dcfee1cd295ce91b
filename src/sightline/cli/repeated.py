"""Options that take a setting take several: `--search optim.lr=log:1e-4..1 batch_size=16,32`."""

import os
import re
from collections.abc import Iterator, Sequence

OPTIONS = ("--set", "--search", "--vary")

_SETTING = re.compile(r"[a-z_][a-z0-9_.]*=")


def repeated(words: Sequence[str]) -> list[str]:
    """The command line with the option before each of its settings, as the parser wants it.

    A path that exists is no setting, whatever its name.
    """
    return list(_repeated(words))


def _repeated(words: Sequence[str]) -> Iterator[str]:
    option, given = None, False  # the option whose settings may follow, and whether it has one yet
    for place, word in enumerate(words):
        if word == "--":
            yield from words[place:]
            return
        name, equals, _ = word.partition("=")
        if name in OPTIONS:
            option, given = name, bool(equals)
        elif not given:
            given = True
        elif option is not None and _SETTING.match(word) and not _exists(word):
            yield option
        else:
            option = None
        yield word


def _exists(word: str) -> bool:
    return os.path.exists(word)  # noqa: PTH110 - pathlib's raises where a name is too long for a file's
