"""train.fast=auto: which precision and memory format trains this network fastest on this machine, by trying.

No one setting wins everywhere: bfloat16 with the channel innermost makes a ResNet four times faster on a CPU that has
it, and an EfficientNet slower. What was chosen is written into the run's recipe, so that a re-run is the same run.
"""

import gc
import hashlib
import json
import logging
import math
import platform
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from functools import cache
from pathlib import Path
from statistics import median

import torch
from torch import Tensor
from torch.nn import functional as F

from sightline.data.loader import MEMORY_RAN_OUT, MemoryRanOutError, explained_failures
from sightline.devices import autocast, emulates_bf16, pick_device, synchronize
from sightline.errors import SightlineError
from sightline.files import cache_folder, write_json
from sightline.measuring.machine import instructions, processor
from sightline.model_folder import Architecture
from sightline.models import Classifier
from sightline.progress import track
from sightline.randomness import seed_torch
from sightline.recipe import Recipe
from sightline.training.allocator import keep_pages
from sightline.training.depthwise import has_depthwise
from sightline.training.fused_attention import has_attention
from sightline.training.fused_norms import has_norms
from sightline.training.job import architecture
from sightline.training.layers import settle_layers
from sightline.training.mixed_attention import has_learned_bias
from sightline.training.optimizers import build_optimizer
from sightline.training.packed_gradients import has_packable
from sightline.training.products import has_products
from sightline.training.winograd import has_filterable

log = logging.getLogger("sightline")

_VERSION = 11
"""Raised when some way to compute takes another time than before: what was measured then is forgotten."""
_ROUNDS = 5
_SECONDS = 20.0
"""After so long the rounds end, whatever was measured by then: each candidate has had one step at least."""
_HOPELESS = 1.5
"""A candidate this many times slower than the best is not tried again."""


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """A way to compute the same training step."""

    precision: str
    channels_last: bool
    depthwise_float32: bool = False
    matmul_convolutions: bool = False
    mixed_attention: bool = False
    fused_norms: bool = False
    fused_attention: bool = False
    packed_gradients: bool = False
    winograd: bool = False

    def __str__(self) -> str:
        words = [self.precision, "channels last" if self.channels_last else "channels first"]
        words += ["depthwise in float32"] * self.depthwise_float32
        words += ["convolutions by products"] * self.matmul_convolutions
        words += ["mixed attention"] * self.mixed_attention + ["fused norms"] * self.fused_norms
        words += ["fused attention"] * self.fused_attention + ["packed gradients"] * self.packed_gradients
        words += ["minimal filtering"] * self.winograd
        return ", ".join(words)


Timer = Callable[[Candidate], float]
"""Seconds that one step takes; infinity where it doesn't fit into memory."""


def resolved(recipe: Recipe) -> Recipe:
    """The recipe with train.fast settled: what is fastest here, found by trying or remembered from the last time.

    Raises MemoryRanOutError where no way to compute fits into memory.
    """
    if recipe.train.fast == "off" or recipe.finetune.probe:  # a probe takes no training step
        return recipe
    device = pick_device(recipe.train.device)
    network = architecture(recipe, num_classes=10)
    tried = candidates(network, device)
    memory = _cache_file(recipe, network, device)
    seconds = _remembered(memory, tried)
    if seconds is None:
        log.info(f"Trying {len(tried)} ways to compute on {device.type}.")
        seconds = measure(tried, _steps(recipe, network, device))
        if len(seconds) == len(tried):  # what doesn't fit today may tomorrow, when the memory is another's no more
            _remember(memory, seconds)
    if not seconds:
        raise MemoryRanOutError(MEMORY_RAN_OUT)
    best, plain = min(seconds, key=seconds.__getitem__), tried[0]
    speed = recipe.batch_size / seconds[best]
    gain = f"{seconds[plain] / seconds[best]:.1f} times {plain}" if plain in seconds else f"{plain} doesn't fit"
    log.info(f"train.fast: {best}; {speed:,.0f} images/s, {gain}.")
    return replace(recipe, train=replace(recipe.train, fast="off", **asdict(best)))


def candidates(network: Architecture, device: torch.device) -> list[Candidate]:
    """What may be fastest on a device; the first is what every network begins as."""
    half = {"cpu": ["bf16"], "cuda": ["bf16" if _gpu_has_bf16() else "fp16"]}.get(device.type, [])
    if emulates_bf16(device):  # 5 to 19 times slower than float32 (docs/log.md): even one step would take long
        half = []
    with torch.device("meta"):
        meta = network.build()
    questions = (has_depthwise, has_products, has_learned_bias, has_packable, has_filterable)
    found = (device.type == "cpu" and has(meta) for has in questions)
    depthwise, products, bias, packable, filterable = found
    # Each of the loops for float32 needs the one before.
    packing = ((False, False), *[(True, False)] * packable, *[(True, True)] * (packable and filterable))
    precisions = ("float32", *half) if device.type == "cpu" else ()
    norms = [precision for precision in precisions if has_norms(meta, precision)]
    attention = [precision for precision in precisions if has_attention(meta, precision)]
    return [
        Candidate(
            precision=precision,
            channels_last=channels_last,
            depthwise_float32=kept,
            matmul_convolutions=product,
            mixed_attention=mixed,
            # Nothing that was measured is faster without these. In float32 the other memory format is tried without.
            fused_norms=precision in norms and channels_last,
            fused_attention=precision in attention and (channels_last or precision in half),
            packed_gradients=packed,
            winograd=filtered,
        )
        for precision in ("float32", *half)
        for channels_last in (False, True)
        for kept in ((False, True) if depthwise and precision in half else (False,))
        for product in ((False, True) if products and precision in half and channels_last else (False,))
        for packed, filtered in (packing if precision == "float32" and channels_last else packing[:1])
        for mixed in ((False, True) if bias and precision in half and precision not in attention else (False,))
    ]


def measure(tried: Sequence[Candidate], timer: Timer) -> dict[Candidate, float]:
    """Median seconds of a step of each that fits, in rounds, so that a busy moment hits all of them alike."""
    # The first step chooses kernels and takes memory.
    firsts = track(tried, total=len(tried), label="Trying", unit="ways")
    seconds: dict[Candidate, list[float]] = {candidate: [] for candidate in firsts if timer(candidate) < math.inf}
    began = time.monotonic()
    for _ in track(range(_ROUNDS), total=_ROUNDS, label="Timing", unit="rounds"):
        best = min((median(values) for values in seconds.values() if values), default=float("inf"))
        for candidate, values in seconds.items():
            if not values or median(values) < _HOPELESS * best:
                values.append(timer(candidate))
        if time.monotonic() - began > _SECONDS:
            break
    return {candidate: median(values) for candidate, values in seconds.items() if max(values) < math.inf}


def _steps(recipe: Recipe, network: Architecture, device: torch.device) -> Timer:
    """Times forward, backward and update on noise, on a network of each candidate's own.

    One that doesn't fit beside the networks of the others is tried again without them.
    """
    keep_pages()
    size, batch_size = recipe.data.image_size, recipe.batch_size

    @cache
    def batch() -> tuple[Tensor, Tensor]:
        noise = torch.randn(batch_size, 3, size, size, device=device)
        return noise, torch.arange(batch_size, device=device) % network.num_classes

    @cache
    def built(candidate: Candidate) -> tuple[Classifier, torch.optim.Optimizer]:
        seed_torch(recipe.seed, "weights")
        model = network.build().to(device)
        if candidate.channels_last:
            model.to(memory_format=torch.channels_last)
        settle_layers(model, candidate, size)
        return model, build_optimizer(model, recipe.optim)

    def timed(candidate: Candidate) -> float:
        (model, optimizer), (noise, targets) = built(candidate), batch()
        layout = torch.channels_last if candidate.channels_last else torch.contiguous_format
        images = noise.contiguous(memory_format=layout)
        synchronize(device)
        began = time.perf_counter()
        with autocast(device, candidate.precision):
            outputs = model.training_outputs(images)
        loss = torch.stack([weight * F.cross_entropy(logits.float(), targets) for weight, logits in outputs]).sum()
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        synchronize(device)
        return time.perf_counter() - began

    def forget() -> None:
        built.cache_clear()
        gc.collect()
        if device.type == "cuda":
            torch.cuda.empty_cache()

    def step(candidate: Candidate) -> float:
        with suppress(MemoryRanOutError), explained_failures():
            return timed(candidate)
        forget()
        with suppress(MemoryRanOutError), explained_failures():
            timed(candidate)  # the first step is longer
            return timed(candidate)
        forget()
        return math.inf

    return step


def _gpu_has_bf16() -> bool:
    return torch.cuda.is_available() and torch.cuda.is_bf16_supported(including_emulation=False)


def _cache_file(recipe: Recipe, network: Architecture, device: torch.device) -> Path:
    host = f"{platform.node()} {processor()} {instructions()}"
    machine = torch.cuda.get_device_name() if device.type == "cuda" else host
    threads = torch.get_num_threads() if device.type == "cpu" else 0
    parts = (_VERSION, asdict(network), recipe.batch_size, recipe.optim.name, machine, threads, torch.__version__)
    return cache_folder() / "fast" / f"{hashlib.sha256(repr(parts).encode()).hexdigest()[:16]}.json"


def _remembered(path: Path, tried: Sequence[Candidate]) -> dict[Candidate, float] | None:
    try:
        stored = json.loads(path.read_text(encoding="utf-8"))
        return {candidate: float(stored[str(candidate)]) for candidate in tried}
    except (OSError, ValueError, TypeError, LookupError):
        return None


def _remember(path: Path, seconds: dict[Candidate, float]) -> None:
    with suppress(SightlineError, OSError):
        write_json(path, {str(candidate): value for candidate, value in seconds.items()})
