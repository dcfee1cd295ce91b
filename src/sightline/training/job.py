"""One run from its first step to the finished model folder."""

import logging
import platform
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from numpy.typing import NDArray
from safetensors.torch import load_file

from sightline.command_line import command_line
from sightline.data.loader import Batches, Pixels
from sightline.data.order import in_order
from sightline.data.packed import Packed, packed
from sightline.data.phrases import counted, listed
from sightline.data.prepare import LEAVE_OUT, PUT_BACK, Prepared
from sightline.data.table import Split
from sightline.data.unlabelled import Pool, labelled, place_of, record, with_unlabelled
from sightline.devices import EMULATED, emulates_bf16, memory, pick_device
from sightline.errors import ModelError, RecipeError
from sightline.evaluation import BATCH_SIZE, evaluate_images, keep_evaluation
from sightline.model_folder import Architecture, ModelFolder, ModelSpec, Provenance
from sightline.models import Classifier, fit_note
from sightline.prediction import collect_logits
from sightline.randomness import seed_torch
from sightline.recipe import Recipe
from sightline.summary import count, training_memory
from sightline.training.checkpoint import Checkpoint
from sightline.training.fake_quantizing import stop_fake_quantizing
from sightline.training.fit import check_precision, determinism_restored, fit
from sightline.training.fitting import calibrate
from sightline.training.freezing import Freezing
from sightline.training.interruption import way_on
from sightline.training.labels import build_loss
from sightline.training.layers import check_layers, idle, settle
from sightline.training.order import training_order
from sightline.training.probe import fit_head
from sightline.training.progressive import check_growth
from sightline.training.run import Run
from sightline.training.start import begin_from_images, check_start, narrowing_of, parent_of, starting_network
from sightline.training.task import ClassificationTask
from sightline.training.teacher import check_same, find_teacher, teacher_of

log = logging.getLogger("sightline")

FEW_IMAGES, PHOTO = 5_000, 96
"""Training images, and pixels of a side: with fewer of the ones, and at least the others, published weights help."""
PACKAGES = ("sightline", "torch", "torchvision", "lightning", "safetensors", "pillow", "numpy")


def check_job(recipe: Recipe) -> None:
    """Raise what is wrong with the recipe on this machine, before any image is read."""
    check_precision(recipe.train, pick_device(recipe.train.device))
    check_layers(recipe.train)
    with torch.device("meta"):
        model = architecture(recipe, num_classes=2).build()
        _check_memory(model, recipe.model.name)
        Freezing(model, recipe.finetune, recipe.epochs)
    check_growth(recipe, model)
    check_start(recipe)
    if recipe.distill.teacher is not None:
        find_teacher(recipe.distill)
    if recipe.distill.unlabelled is not None:
        place_of(recipe.distill.unlabelled)


def check_begun(recipe: Recipe, way_out: str) -> None:
    """Raise RecipeError, and say `way_out`, where this machine can't compute as what was begun elsewhere does."""
    try:
        check_precision(recipe.train, pick_device(recipe.train.device))
        check_layers(recipe.train)
    except RecipeError as error:
        raise RecipeError(f"{str(error).partition('. ')[0]}. {way_out}") from error


def _check_memory(model: Classifier, name: str) -> None:
    """Raise ModelError for a network that this machine can't even hold: building it would have the process killed."""
    needed = sum(tensor.nbytes for tensor in (*model.parameters(), *model.buffers()))
    if needed > memory():
        raise ModelError(
            f"The weights of {name!r} with these settings take {needed / 1e9:,.0f} GB, and this machine's memory has "
            f"{memory() / 1e9:,.0f} GB. Lower model.width or model.depth, or name a smaller network."
        )


def architecture(recipe: Recipe, num_classes: int) -> Architecture:
    """The network a recipe asks for."""
    model = recipe.model
    return Architecture(
        name=model.name,
        num_classes=num_classes,
        image_size=recipe.data.image_size,
        dropout=model.dropout,
        drop_path=model.drop_path,
        activation=model.activation,
        norm=model.norm,
        width=model.width,
        depth=model.depth,
        narrowing=narrowing_of(recipe),
    )


def run_job(
    recipe: Recipe,
    prepared: Prepared,
    folder: Path,
    checkpoint: Checkpoint | None = None,
    *,
    measure: Sequence[Split],
) -> ModelFolder:
    """Train as the recipe says, calibrate, write the model folder, and measure it on the splits `measure`."""
    pool = _pool(recipe, prepared, goes_on=checkpoint is not None)
    if checkpoint is not None:
        check_images(checkpoint.data_fingerprint, pool.fingerprint, recipe, prepared, folder)
        check_same(recipe.distill, checkpoint.teacher)
    record(pool, folder / "splits.json")
    with _store(recipe, pool) as store, determinism_restored():
        _train(recipe, prepared, pool, folder, checkpoint, store)
        return _measured(recipe, prepared, folder, measure, store)


def measure_job(recipe: Recipe, prepared: Prepared, folder: Path, *, measure: Sequence[Split]) -> ModelFolder:
    """Measure the network of a run that was ended after its training, as `run_job` would have done."""
    known = ModelFolder.read(folder).spec.provenance.data["fingerprint"]
    check_images(known, prepared.fingerprint, recipe, prepared, folder)
    with _store(recipe, _pool(recipe, prepared, goes_on=True)) as store:
        return _measured(recipe, prepared, folder, measure, store)


def _measured(
    recipe: Recipe, prepared: Prepared, folder: Path, measure: Sequence[Split], store: Packed | None
) -> ModelFolder:
    """The run's folder, with figures on these splits."""
    device, num_workers, table = recipe.train.device, recipe.data.num_workers, prepared.table
    for name in measure:
        written, places = ModelFolder.read(folder), prepared.splits.named()[name]
        measured = evaluate_images(written, table, places, device=device, num_workers=num_workers, store=store)
        keep_evaluation(written, table, places, *measured, name=name)
    return ModelFolder.read(folder)


def check_images(known: str, found: str, recipe: Recipe, prepared: Prepared, folder: Path) -> None:
    """Raise ModelError unless the images are those that the run began with, by their fingerprints."""
    if found != known:
        raise ModelError(
            f"The images in {_locations(recipe, prepared)} are not those the run in {str(folder)!r} began with: "
            "files were added, removed or changed. Put them back, or train anew."
        )


def _pool(recipe: Recipe, prepared: Prepared, *, goes_on: bool) -> Pool:
    """What is trained on: the data's own images, and those without labels where the recipe names some."""
    if recipe.distill.unlabelled is None:
        return labelled(prepared)
    leave_out = recipe.data.on_unreadable == "leave_out"
    advice = PUT_BACK if goes_on else LEAVE_OUT
    return with_unlabelled(prepared, recipe.distill.unlabelled, leave_out_unreadable=leave_out, advice=advice)


def _locations(recipe: Recipe, prepared: Prepared) -> str:
    unlabelled = recipe.distill.unlabelled
    return repr(prepared.table.source.location) + ("" if unlabelled is None else f" or {unlabelled!r}")


def _store(recipe: Recipe, pool: Pool) -> AbstractContextManager[Packed | None]:
    """Where decoded canvases are kept; None where the recipe or the disk says no."""
    if not recipe.data.cache:
        return nullcontext()
    data = recipe.data
    geometry = f"{data.preprocess().resize} {data.image_size} {data.interpolation}"
    return packed(pool.fingerprint, geometry, len(pool.table), data.preprocess().resize)


def _train(
    recipe: Recipe, prepared: Prepared, pool: Pool, folder: Path, checkpoint: Checkpoint | None, store: Packed | None
) -> ModelFolder:
    device = pick_device(recipe.train.device)
    table, splits = prepared.table, prepared.splits
    network = architecture(recipe, len(table.classes))
    seed_torch(recipe.seed, "weights")
    model = starting_network(recipe, network, table.classes)
    preprocess = recipe.data.preprocess()
    if checkpoint is None:
        begin_from_images(model, Pixels(table, preprocess, canvas=False, store=store), preprocess, splits.train)
        if recipe.finetune.begins_with_probe:
            fit_head(model, recipe, prepared, device)
    order = training_order(recipe, table, pool.places)
    task = ClassificationTask(model, recipe, order.batches_per_epoch, build_loss(recipe.loss, table, splits.train))
    task.teacher = teacher_of(recipe, task.model, table.classes, device)
    task.num_labelled = pool.num_labelled if pool.num_unlabelled else None
    for name in idle(model, recipe.train):
        log.info(f"train.{name} changes nothing: {network.name} has no layer that it is about.")
    rounded = settle(model, recipe)
    if recipe.train.fake_quantize:
        log.info(f"Rounding as int8 would in {counted(rounded, 'layer')}.")
    _announce(recipe, prepared, model, device)
    if recipe.train.precision == "bf16" and emulates_bf16(device):
        advice = "" if checkpoint is not None else " --set train.fast=auto takes what is fastest here."
        log.info(EMULATED.format("the recipe") + advice)
    for note in (*(model.start.notes if model.start is not None else ()), *task.freezing.plan()):
        log.info(note)
    num_workers = recipe.data.num_workers
    training = Batches(
        Pixels(pool.table, preprocess, canvas=True, store=store), order, pool.targets, len(table.classes), num_workers
    )
    validation = _in_order(prepared, recipe, splits.val, store)
    if recipe.finetune.probe:
        fit_head(model, recipe, prepared, device)
    else:
        run = Run(folder, task, training, validation, pool.fingerprint)
        _run_through(run, training, device, checkpoint)
    stop_fake_quantizing(model)
    logits = collect_logits(model.to(device), validation, preprocess, device=device, label="Calibrating")
    calibration, thresholds = calibrate(logits, table.targets[splits.val], table.classes)
    if thresholds is not None:
        log.info(f"Thresholds chosen on {thresholds.fitted_on}.")
    spec = ModelSpec(
        architecture=network,
        classes=table.classes,
        preprocess=preprocess,
        calibration=calibration,
        provenance=_provenance(recipe, prepared, pool, device),
        task="multi_label" if table.multi_label else "single_label",
        thresholds=thresholds,
    )
    return ModelFolder.write(folder, spec, model.state_dict())


def _run_through(run: Run, training: Batches, device: torch.device, checkpoint: Checkpoint | None) -> None:
    """Train to the recipe's end, and keep the weights it says. Raises KeyboardInterrupt when the user stopped it."""
    if not fit(run, training, device, checkpoint):
        log.info(f"Stopped. {way_on(str(run.last))}")
        raise KeyboardInterrupt
    run.task.model.load_state_dict(load_file(run.kept))
    for sentence in run.ending():
        log.info(sentence)


def _in_order(prepared: Prepared, recipe: Recipe, indices: NDArray[Any], store: Packed | None) -> Batches:
    """Evaluation batches of some images."""
    table = prepared.table
    pixels = Pixels(table, recipe.data.preprocess(), canvas=False, store=store)
    order = in_order(indices, BATCH_SIZE)
    return Batches(pixels, order, table.targets, len(table.classes), recipe.data.num_workers)


def _announce(recipe: Recipe, prepared: Prepared, model: Classifier, device: torch.device) -> None:
    """Say what is about to run: the data, what was decided for the user, the network, its memory, the device."""
    splits, name, image_size = prepared.splits, recipe.model.name, recipe.data.image_size
    log.info(
        f"{len(prepared.table.classes)} classes; {len(splits.train):,} images to train on, "
        f"{len(splits.val):,} to choose by, {len(splits.test):,} to test."
    )
    for sentence in splits.made:
        log.info(sentence)
    at_random = recipe.model.pretrained is None and recipe.distill.teacher is None
    if at_random and len(splits.train) < FEW_IMAGES and image_size >= PHOTO:
        log.info("Few images for weights that begin at random: --recipe fine_tune begins with published ones.")
    passed_over = [path for path in prepared.table.ignored if not path.endswith("/")]
    if passed_over:
        log.info(f"{counted(len(passed_over), 'file')} passed over, no images by name: {listed(passed_over, 3)}.")
    for problem in prepared.audit.problems():
        log.info(f"Data: {problem}")
    note = fit_note(name, image_size)
    if note:
        log.info(f"{name} at {image_size} pixels: {note}.")
    counts = count(model, image_size)
    estimate = training_memory(
        model,
        batch_size=recipe.batch_size,
        image_size=image_size,
        optimizer=recipe.optim.name,
        precision=recipe.train.precision,
    )
    if recipe.optim.target_batch is not None:
        log.info(
            f"optim.target_batch {recipe.optim.target_batch}: each update averages the gradients of "
            f"{counted(recipe.accumulate, 'batch', 'batches')} of {recipe.batch_size} images."
        )
    length = "a probe" if recipe.finetune.probe else counted(recipe.epochs, "epoch")
    log.info(
        f"{name}: {counts.params:,} parameters, {counts.macs / 1e6:,.0f} million multiply-accumulates an image, "
        f"about {estimate.total / 1e6:,.0f} MB in training beside the libraries' own; "
        f"{length} on {device.type}, {recipe.train.precision}."
    )


def _provenance(recipe: Recipe, prepared: Prepared, pool: Pool, device: torch.device) -> Provenance:
    table, splits, unlabelled = prepared.table, prepared.splits, recipe.distill.unlabelled
    versions = {name: version(name) for name in PACKAGES}
    machine = torch.cuda.get_device_name() if device.type == "cuda" else platform.machine()
    return Provenance(
        command=command_line(),
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        data={
            "location": table.source.location,
            "fingerprint": prepared.fingerprint,
            "images": {name: len(places) for name, places in splits.named().items()},
            **({} if unlabelled is None else {"unlabelled": unlabelled, "unlabelled_images": pool.num_unlabelled}),
            **({} if table.separator is None else {"label_separator": table.separator}),
        },
        parent=parent_of(recipe),
        versions=versions | {"python": platform.python_version(), "device": f"{device.type} {machine}"},
    )
