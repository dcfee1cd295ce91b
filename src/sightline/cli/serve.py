"""`sightline serve`."""

from pathlib import Path
from typing import Annotated

import typer


def serve(
    models: Annotated[
        list[str], typer.Argument(metavar="MODEL...", help="Model folders or exported ones; NAME=PATH names one.")
    ],
    host: Annotated[
        str, typer.Option(help="Address to listen at; 0.0.0.0 is every one of this machine's.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="0 takes a free one.", min=0, max=65535)] = 8000,
    workers: Annotated[int, typer.Option(help="Processes, each with its own copy of the models.", min=1)] = 1,
    threads: Annotated[
        int | None, typer.Option(help="Threads a model computes with; the engine's choice if left out.", min=1)
    ] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or mps.")] = "auto",
    engine: Annotated[
        str | None, typer.Option(help="What computes; auto is the fastest here, the folder's own if left out.")
    ] = None,
    precision: Annotated[str | None, typer.Option(help="float32 or bf16; the folder's own if left out.")] = None,
    max_batch: Annotated[
        int | None,
        typer.Option(
            help="Images in one run at most, 16 if left out; PyTorch on the CPU computes them one by one then.",
            min=1,
        ),
    ] = None,
    max_wait_ms: Annotated[float, typer.Option(help="How long an image waits for others being decoded.", min=0)] = 5.0,
    max_queue: Annotated[int, typer.Option(help="Images waiting at most; beyond it clients get 429.", min=1)] = 256,
    max_queue_seconds: Annotated[
        float, typer.Option(help="How long an image would wait at most; beyond it clients get 429.")
    ] = 3.0,
    deadline: Annotated[float, typer.Option(help="Seconds for an answer; then clients get 504.")] = 30.0,
    token_file: Annotated[
        Path | None, typer.Option(help="File with the bearer token to ask for; or set SIGHTLINE_TOKEN.")
    ] = None,
    cors_origin: Annotated[
        list[str] | None, typer.Option(help="A site whose pages may call, as https://example.com; repeatable.")
    ] = None,
    log: Annotated[bool, typer.Option("--log/--no-log", help="A line of JSON for each request.")] = True,
) -> None:
    """Answer over HTTP: predictions, heat maps, the model's card, metrics, and a page to try it on."""
    from sightline.serving import serve as run
    from sightline.serving.bearer import find_token
    from sightline.serving.limits import Batching, Limits, Settings

    settings = Settings(
        models=tuple(models),
        host=host,
        port=port,
        workers=workers,
        threads=threads,
        device=device,
        engine=engine,
        precision=precision,
        token=find_token(token_file),
        cors_origins=tuple(cors_origin or ()),
        access_log=log,
        limits=Limits(
            max_queue=max_queue,
            max_queue_seconds=max_queue_seconds,
            max_images=min(64, max_queue),
            deadline_seconds=deadline,
        ),
        batching=Batching(max_batch=max_batch, max_wait_seconds=max_wait_ms / 1000),
    )
    run(settings, on_listening=lambda address: print(f"Serving {', '.join(models)} at {address}", flush=True))
