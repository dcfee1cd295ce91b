"""`sightline models`."""

import json
import os
from collections.abc import Iterator
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sightline.cli.ignored import check_used
from sightline.cli.saying import write_for_programs

if TYPE_CHECKING:
    from rich.table import Table

    from sightline.model_list import ListedModel
    from sightline.summary import Layer


_WIDE = 160
"""Characters that a line with everything takes."""


def models(
    context: typer.Context,
    name: Annotated[str | None, typer.Argument(help="Print this architecture's layers; timm/NAME works, too.")] = None,
    sort: Annotated[str, typer.Option(help="name, year, params, macs, top1 or size.")] = "year",
    containing: Annotated[str, typer.Option("--filter", help="List names that contain this text.")] = "",
    image_size: Annotated[int | None, typer.Option(help="Pixels; the paper's if left out.", min=1)] = None,
    num_classes: Annotated[int | None, typer.Option(help="Classes; the paper's if left out.", min=1)] = None,
    batch_size: Annotated[int, typer.Option(help="Images in a batch, for the memory of training.", min=1)] = 32,
    optimizer: Annotated[
        str,
        typer.Option(
            help="sgd, adam, adamw, nadam, radam, rmsprop, adagrad, lamb, lion, muon or schedulefree_adamw, for the "
            "memory of training."
        ),
    ] = "adamw",
    precision: Annotated[str, typer.Option(help="float32, bf16 or fp16, for the memory of training.")] = "float32",
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """List the architectures, or show one: its layers, their shapes and costs, and what training it takes."""
    from rich.console import Console

    if name is None:
        check_used(context, "Without NAME, `sightline models` lists all", ("sort", "containing", "as_json"))
    else:
        others = ("name", "image_size", "num_classes", "batch_size", "optimizer", "precision", "as_json")
        check_used(context, "`sightline models NAME` shows one architecture", others)
    console = Console(highlight=False, markup=False, emoji=False)
    if not console.is_terminal and "COLUMNS" not in os.environ:
        console.width = _WIDE  # a file or another command: whole lines, which grep finds
    if name is None:
        from sightline.model_list import list_models

        rows = list_models(containing, sort)
        parts = _listing(rows, with_papers=console.width >= _WIDE)
        found: Any = [asdict(row) for row in rows]
    else:
        found, parts = _described(name, image_size, num_classes, (batch_size, optimizer, precision))
    if as_json:
        write_for_programs()
        print(json.dumps(found, indent=2, ensure_ascii=False))
        return
    for part in parts:
        console.print(part, soft_wrap=isinstance(part, str))


def _listing(rows: list["ListedModel"], *, with_papers: bool) -> Iterator["str | Table"]:
    """The papers are a terminal's width by themselves; `sightline models NAME` names one's, too."""
    sources = list(dict.fromkeys(row.source for row in rows if row.source))
    table = _table("name", "year", "pixels >", "parameters >", "MACs >", "top-1 >", "source", *["paper"] * with_papers)
    for row in rows:
        source = f"[{sources.index(row.source) + 1}]" if row.source else ""
        accuracy = "" if row.top1 is None else f"{row.top1:.1f}%"
        sizes = (f"{row.image_size}", f"{row.params:,}", f"{row.macs / 1e6:,.0f} M")
        paper = [row.paper.removeprefix("https://")] * with_papers
        table.add_row(row.name, str(row.year), *sizes, accuracy, source, *paper)
    yield table
    yield "\nTop-1 on ImageNet-1k, or on CIFAR-10 for 32 pixels; MACs for one image. Sources:"
    for index, source in enumerate(sources, 1):
        yield f"  [{index}] {source}"


def _described(
    name: str, image_size: int | None, num_classes: int | None, training: tuple[int, str, str]
) -> tuple[dict[str, Any], Iterator["str | Table"]]:
    """One architecture as plain values, and as what is printed. Built on shapes alone."""
    import torch

    from sightline import summary
    from sightline.models import create_model, find_variant, fit_note

    family, variant = find_variant(name)
    size = variant.image_size if image_size is None else image_size
    with torch.device("meta"):
        model = create_model(name, num_classes=num_classes, image_size=size)
    model.drop_auxiliary()
    layers = summary.layer_table(model, size)
    with torch.device("meta"):
        trained = create_model(name, num_classes=num_classes, image_size=size)
    batch_size, optimizer, precision = training
    memory = summary.training_memory(
        trained, batch_size=batch_size, image_size=size, optimizer=optimizer, precision=precision
    )
    found = {
        "name": name,
        "title": family.title,
        "paper": family.paper,
        "year": family.year,
        "image_size": size,
        "changed_for_this_size": fit_note(name, size),
        **asdict(summary.count(model, size)),
        "stages": [asdict(stage) for stage in model.stages],
        "layers": [asdict(layer) for layer in layers],
        "training": {"batch_size": batch_size, "optimizer": optimizer, "precision": precision},
        "training_memory": {**asdict(memory), "total": memory.total},
    }
    return found, _description(found, layers)


def _description(found: dict[str, Any], layers: list["Layer"]) -> Iterator["str | Table"]:
    yield f"{found['name']}: {found['title']} ({found['year']}), {found['paper']}"
    if found["changed_for_this_size"]:
        yield f"At {found['image_size']} pixels: {found['changed_for_this_size']}."
    yield ""
    table = _table("layer", "kind", "output >", "parameters >", "MACs >", "bytes kept >")
    for layer in layers:
        if layer.params or layer.macs or layer.activation_bytes:
            shape = "x".join(map(str, layer.output))
            figures = (layer.params, layer.macs, layer.activation_bytes)
            table.add_row(layer.name, layer.kind, shape, *(f"{figure:,}" for figure in figures))
    yield table
    kept = _megabytes(sum(layer.activation_bytes for layer in layers))
    yield f"\n{found['params']:,} parameters, {found['macs']:,} multiply-accumulates an image."
    yield f"For one image, {kept} are kept for the backward pass."
    maps = ", ".join(
        f"{stage['name']} ({stage['channels']} channels, 1/{stage['stride']})" for stage in found["stages"]
    )
    yield f"Maps: {maps}."
    memory = found["training_memory"]
    parts = ", ".join(
        f"{part} {_megabytes(memory[part])}" for part in ("weights", "gradients", "optimizer", "activations")
    )
    how = "{batch_size} images, {optimizer}, {precision}".format_map(found["training"])
    yield f"Training takes about {_megabytes(memory['total'])} ({how}): {parts}."


def _table(*columns: str) -> "Table":
    """Columns by their headings; a heading that ends in ">" is a column of numbers."""
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="bold")
    for number, heading in enumerate(columns):
        justify = "right" if heading.endswith(" >") else "left"
        table.add_column(heading.removesuffix(" >"), justify=justify, overflow="fold", no_wrap=number == 0)
    return table


def _megabytes(num_bytes: int) -> str:
    return f"{num_bytes / 1e6:,.1f} MB"
