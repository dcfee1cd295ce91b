"""Options that a command would ignore: they are refused by name."""

from collections.abc import Collection

import typer

from sightline.errors import SightlineError


def check_used(context: typer.Context, what: str, used: Collection[str]) -> None:
    """Raise SightlineError for what the command line gives and is not `used`, by the function's names.

    `what` begins the sentence: "--list only lists".
    """
    for parameter in context.command.params:
        name = parameter.name or ""
        source = context.get_parameter_source(name)
        if name not in used and source is not None and source.name == "COMMANDLINE":
            said = name.upper() if parameter.param_type_name == "argument" else parameter.opts[0]
            raise SightlineError(f"{what} and would ignore {said}. Leave it out.")
