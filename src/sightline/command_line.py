"""The command of this process, as a model's trail and an error may show it: without passwords."""

import re
import shlex
import sys

_PASSWORD = re.compile(r"(://[^:/@]*:).*(?=@)|([?&]password=)[^&]*")


def command_line() -> str:
    """`sightline` and its arguments, ready for a shell."""
    return shlex.join(["sightline", *map(without_password, sys.argv[1:])])


def without_password(address: str) -> str:
    """An address such as postgresql://user:password@host/name with *** in the password's place."""
    return _PASSWORD.sub(r"\1\2***", address)
