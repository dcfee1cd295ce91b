"""The command `sightline`: one file per verb, each small: parse, call one function, print."""

import logging
import sys
import warnings
from importlib import metadata
from typing import Annotated

import typer

from sightline.cli import (
    adopt,
    augment,
    bench,
    check,
    compress,
    demo,
    evaluate,
    export,
    find,
    models,
    predict,
    recipes,
    scale,
    serve,
    study,
    train,
    tune,
)
from sightline.cli.repeated import repeated
from sightline.deps import explained
from sightline.errors import SightlineError

app = typer.Typer(
    help="From a folder of images to a served, compressed classifier, with evidence at every step.",
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # plain help: rich alone would double the time to print it
)
for verb in (
    demo.demo,
    check.check,
    augment.augment,
    train.train,
    evaluate.evaluate,
    predict.predict,
    export.export,
    compress.compress,
    adopt.adopt,
    bench.bench,
    serve.serve,
    models.models,
    recipes.recipes,
    study.study,
    tune.tune,
    scale.scale,
):
    app.command()(verb)
app.add_typer(find.app, name="find")


def _print_version(asked: bool) -> None:
    if asked:
        print(f"sightline {metadata.version('sightline')}")
        raise typer.Exit


@app.callback()
def _sightline(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and leave.")
    ] = False,
) -> None:
    del version


def main() -> None:
    """Run the command: a user's mistake is one line and exit code 2. Ctrl-C is exit code 130, by Typer."""
    _print_unencodable_names()
    _quiet_pillow()
    try:
        app(repeated(sys.argv[1:]))
    except SightlineError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    except ModuleNotFoundError as error:
        missing = explained(error, purpose=f"`sightline {' '.join(sys.argv[1:2])}`")
        if missing is None:
            raise
        print(f"error: {missing}", file=sys.stderr)
        sys.exit(2)
    except BrokenPipeError:  # the reader (head, less) has seen enough
        sys.stderr.close()
        sys.exit(0)
    except OSError as error:  # what is not about one file of ours: standard output is full, say
        print(f"error: {error}.", file=sys.stderr)
        sys.exit(2)


def _quiet_pillow() -> None:
    """What Pillow warns of in a damaged or huge image is in our own sentence about that image."""
    warnings.filterwarnings("ignore", module="PIL")
    logging.getLogger("PIL").setLevel(logging.CRITICAL)


def _print_unencodable_names() -> None:
    """A terminal that can't show a file's name gets an escape for it instead of a crash."""
    for stream in (sys.stdout, sys.stderr):
        reconfigure = getattr(stream, "reconfigure", None)
        if reconfigure is not None:
            reconfigure(errors="backslashreplace")
