"""`sightline recipes`."""

from typing import Annotated

import typer

from sightline.cli.ignored import check_used


def recipes(
    context: typer.Context,
    name: Annotated[str | None, typer.Argument(help="A recipe to print as YAML.")] = None,
    explain: Annotated[bool, typer.Option("--explain", help="Print every setting with its meaning and unit.")] = False,
) -> None:
    """List the shipped recipes, print one, or explain every setting."""
    from sightline import catalog
    from sightline.recipe_text import explain as settings
    from sightline.recipe_text import to_yaml
    from sightline.recipes import describe_recipe, find_recipe

    if explain:
        check_used(context, "--explain explains every setting", ("explain",))
        for setting, default, meaning in settings():
            print(f"{setting}{f' = {default}' if default else ''}\n    {meaning}")
    elif name is not None:
        print(to_yaml(find_recipe(name)), end="")
    else:
        shipped = catalog.names("sightline.recipes")
        width = max(map(len, shipped))
        for shipped_name in shipped:
            print(f"{shipped_name:<{width}}  {describe_recipe(shipped_name)}")
