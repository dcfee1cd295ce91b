"""The command of this process, as a model's trail and an error may show it: without passwords."""

import re
import shlex
import sys
from pathlib import Path

_PASSWORD = re.compile(r"(://[^:/@]*:).*(?=@)|([?&]password=)[^&]*")


def command_line() -> str:
    """`sightline` and its arguments, ready for a shell; where a program called instead, Python and that program's."""
    program = Path(sys.argv[0])
    is_ours = program.stem == "sightline" or program.parts[-2:] == ("sightline", "__main__.py")
    called = ["sightline"] if is_ours else ["python", program.name]
    return shlex.join([*filter(None, called), *map(without_password, sys.argv[1:])])


def without_password(address: str) -> str:
    """An address such as postgresql://user:password@host/name with *** in the password's place."""
    return _PASSWORD.sub(r"\1\2***", address)
