"""`sightline compress`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sightline.cli.ignored import check_used
from sightline.cli.saying import say

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sightline.compressing.judging import Row

_COLUMNS = ("change", "on disk", "parameters", "MACs", "one image", "times as fast")


def compress(
    context: typer.Context,
    model: Annotated[Path, typer.Argument(help="A model folder.")],
    data: Annotated[
        str | None, typer.Argument(help="Images to tune and calibrate on; the model's own if left out.")
    ] = None,
    sensitivity: Annotated[
        Path | None,
        typer.Option(help="Cut each layer alone, plot what that costs to this file, and compress nothing."),
    ] = None,
    prune: Annotated[
        str,
        typer.Option(help="The share to keep of macs, params or latency, such as macs=0.5.", metavar="TARGET=SHARE"),
    ] = "",
    sweep: Annotated[
        str,
        typer.Option(
            help="Several shares for --prune, which then names the target alone: each goes through all steps, "
            "and the report shows what they left.",
            metavar="SHARE,SHARE,...",
        ),
    ] = "",
    importance: Annotated[
        str, typer.Option(help="Of a channel: magnitude, group_norm, taylor or batch_norm.")
    ] = "group_norm",
    ranking: Annotated[str, typer.Option(help="global, or layer: the same share of each.")] = "global",
    round_to: Annotated[int, typer.Option(help="Channels that stay are a multiple of it.")] = 8,
    steps: Annotated[int, typer.Option(help="Cuts, with training after each.")] = 1,
    sparsify: Annotated[
        str,
        typer.Option(
            help="Set weights to zero: a share of them, such as 0.5, or N:M, such as 2:4, of every M weights N stay. "
            "The file packs better; nothing gets faster.",
            metavar="SHARE|N:M",
        ),
    ] = "",
    epochs: Annotated[
        int, typer.Option(help="Of training after each cut, and after --sparsify; 0 trains nothing.")
    ] = 5,
    distill: Annotated[
        str, typer.Option(help="Train on the probabilities of this model folder, too.", metavar="TEACHER")
    ] = "",
    student: Annotated[
        str, typer.Option(help="Train this architecture afresh, with MODEL as its teacher unless --distill names one.")
    ] = "",
    unlabelled: Annotated[
        str, typer.Option(help="Of --distill: images without labels to learn from, too.", metavar="FOLDER")
    ] = "",
    temperature: Annotated[float, typer.Option(help="Of --distill: what logits are divided by.")] = 4.0,
    weight: Annotated[float, typer.Option(help="Of --distill: the teacher's share of the loss.")] = 0.9,
    distill_epochs: Annotated[
        int | None, typer.Option(help="Of --distill; for a student those of MODEL's recipe if left out, else 5.")
    ] = None,
    quantize: Annotated[
        str,
        typer.Option(
            help="int8 computes in whole numbers, calibrated on training images; int8_weights and fp16 only store the "
            "weights smaller.",
            metavar="int8|int8_weights|fp16",
        ),
    ] = "",
    engine: Annotated[str, typer.Option(help="Of --quantize: openvino or onnx.")] = "openvino",
    max_drop: Annotated[
        float | None, typer.Option(help="Of --quantize: points of validation accuracy that may be lost.")
    ] = None,
    quantize_epochs: Annotated[
        int,
        typer.Option(
            help="Of --quantize int8: epochs of training with its rounding first (quantisation-aware), where "
            "calibrating alone costs too much."
        ),
    ] = 0,
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="NAME=VALUE...", help="A setting of the training, such as optim.lr=0.01."),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="The folder for the steps' folders; MODEL-compressed if left out.")
    ] = None,
    device: Annotated[str, typer.Option(help="Where accuracy is measured: auto, cpu, cuda or mps.")] = "auto",
) -> None:
    """Make a model smaller, and show what each step cost: the same command goes on where one was interrupted."""
    from sightline.compression import Method, place_of
    from sightline.compression import compress as run
    from sightline.compression import sweep as run_sweep
    from sightline.compression.distill import Distill
    from sightline.compression.prune import Prune
    from sightline.compression.quantize import Quantize
    from sightline.compression.sparsify import Sparsify
    from sightline.reports.compression import write_compression_report

    say()
    if sensitivity is not None:
        alone = ("model", "data", "sensitivity", "importance", "device")
        check_used(context, "--sensitivity compresses nothing", alone)
        _sensitivity(model, data, sensitivity, importance, device)
        return
    _check_used(
        "--prune",
        bool(prune),
        steps=steps != 1,
        ranking=ranking != "global",
        importance=importance != "group_norm",
        round_to=round_to != 8,
    )
    _check_used("--prune or --sparsify", bool(prune or sparsify), epochs=epochs != 5)
    distills = bool(distill or student)
    _check_used(
        "--distill",
        distills,
        unlabelled=bool(unlabelled),
        temperature=temperature != 4.0,
        weight=weight != 0.9,
        distill_epochs=distill_epochs is not None,
    )
    _check_used(
        "--quantize",
        bool(quantize),
        max_drop=max_drop is not None,
        engine=engine != "openvino",
        quantize_epochs=quantize_epochs != 0,
    )
    trains = distills or bool(quantize_epochs) or (bool(prune or sparsify) and epochs > 0)
    _check_used("a step that trains", trains, set=bool(settings))
    target, shares = _targets(prune, sweep)
    chosen = tuple(settings or ())
    others = tuple(text for text in chosen if not (distills and text.strip().startswith("distill.")))
    cuts = [
        Prune(
            target=target,  # pyright: ignore[reportArgumentType]  # checked there
            share=share,
            importance=importance,  # pyright: ignore[reportArgumentType]
            ranking=ranking,  # pyright: ignore[reportArgumentType]
            round_to=round_to,
            steps=steps,
            epochs=epochs,
            settings=others,
        )
        for share in shares
    ]
    methods: list[Method] = []
    if sparsify:
        zero, pattern = _zeros(sparsify)
        methods.append(Sparsify(share=zero, pattern=pattern, epochs=epochs, settings=others))
    if distills:
        methods.append(
            Distill(
                teacher=distill or None,
                student=student or None,
                unlabelled=unlabelled or None,
                temperature=temperature,
                weight=weight,
                epochs=distill_epochs,
                settings=chosen,
            )
        )
    if quantize:
        methods.append(
            Quantize(
                engine=engine,  # pyright: ignore[reportArgumentType]
                precision=quantize,  # pyright: ignore[reportArgumentType]
                max_drop=max_drop,
                epochs=quantize_epochs,
                settings=others if quantize_epochs else (),
            )
        )
    place = place_of(model, out, sweep=bool(sweep))
    if sweep:
        ways = {f"{target}={cut.share}": [cut, *methods] for cut in cuts}
        rows = run_sweep(model, ways, data=data, out=place, device=device)
    else:
        rows = run(model, [*cuts, *methods], data=data, out=place, device=device)
    _print(rows)
    print(f"models  {place}" if sweep else f"model   {rows[-1].path}")
    print(f"report  {write_compression_report(place)}")


def _check_used(method: str, chosen: bool, **changed: bool) -> None:
    """Raise SightlineError for an option of a method that isn't applied."""
    from sightline.errors import SightlineError

    ignored = next((name.replace("_", "-") for name, given in changed.items() if given), None)
    if ignored is not None and not chosen:
        raise SightlineError(f"--{ignored} belongs to {method}: add that, or leave --{ignored} out.")


def _sensitivity(model: Path, data: str | None, plot: Path, importance: str, device: str) -> None:
    from sightline.compressing.sensitivity import sensitivity
    from sightline.reports.sensitivity import check_plot, write_sensitivity

    check_plot(plot)
    cuts = sensitivity(model, data, importance=importance, device=device)  # pyright: ignore[reportArgumentType]
    width = max(len(cut.layer) for cut in cuts)
    for cut in cuts:
        print(f"{cut.layer:<{width}}  {cut.num_cut:>5} of {cut.num_units:>5} cut  {cut.accuracy}  {cut.paired}")
    write_sensitivity(plot, cuts)
    print(f"plot    {plot}")


def _zeros(sparsify: str) -> tuple[float | None, tuple[int, int] | None]:
    """A share, or the N and M of a pattern."""
    from sightline.errors import SightlineError

    kept, colon, of = sparsify.partition(":")
    try:
        return (None, (int(kept), int(of))) if colon else (float(sparsify), None)
    except ValueError as error:
        raise SightlineError(f"--sparsify takes a share such as 0.5, or N:M such as 2:4; got {sparsify!r}.") from error


def _targets(prune: str, sweep: str) -> tuple[str, list[float]]:
    """The target and the shares of it to keep: --prune's own, or those of --sweep, which names none twice."""
    from sightline.errors import SightlineError

    if sweep and (not prune or "=" in prune):
        raise SightlineError(f"--sweep gives the shares of one target, such as --prune macs; got --prune {prune!r}.")
    if not prune:
        return "", []
    name, _, share = prune.partition("=")
    try:
        shares = [float(word) for word in sweep.split(",")] if sweep else [float(share)]
    except ValueError as error:
        if sweep:
            raise SightlineError(f"--sweep takes shares to keep, such as 0.8,0.6,0.4; got {sweep!r}.") from error
        raise SightlineError(
            f"--prune takes a target and the share to keep, such as macs=0.5; got {prune!r}."
        ) from error
    twice = next((each for each in shares if shares.count(each) > 1), None)
    if twice is not None:
        raise SightlineError(f"--sweep names the share {twice:g} twice. Name each once.")
    return name.strip(), shares


def _print(rows: "Sequence[Row]") -> None:
    several = rows[0].several_labels
    table = [("", "all labels right" if several else "accuracy", *_COLUMNS), *(_cells(row, rows[0]) for row in rows)]
    widths = [max(len(cells[place]) for cells in table) for place in range(len(table[0]))]
    for first, *cells in table:
        aligned = (cell.rjust(width) for cell, width in zip(cells, widths[1:], strict=True))
        print("  ".join((first.ljust(widths[0]), *aligned)).rstrip())
    print(f"Measured on {rows[0].num_images:,} test images; the change is against the first row, on the same images.")
    print("Times are medians for one image on this machine, side by side.")
    for row in rows:
        if row.seconds and row.same_engine_seconds:
            ratio = row.same_engine_seconds / row.seconds
            print(f"{row.name}: {ratio:.2f} times as fast as the first model in float32 by {row.engine}, too.")
        if row.reason is not None:
            print(f"not timed: {row.name}: {row.reason}")


def _cells(row: "Row", first: "Row") -> tuple[str, ...]:
    ratio = first.seconds / row.seconds if first.seconds and row.seconds else None
    return (
        row.name,
        str(row.accuracy),
        "" if row.paired is None else str(row.paired),
        f"{row.size / 1e6:,.2f} MB",
        f"{row.params:,}",
        f"{row.macs / 1e6:,.1f} million",
        "-" if row.seconds is None else f"{row.seconds * 1e3:.3g} ms ({row.engine})",
        "-" if ratio is None else f"{ratio:.2f}",
    )
