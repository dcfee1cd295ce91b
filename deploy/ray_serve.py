"""The application of `sightline serve` on Ray Serve: replicas on any number of machines, behind Ray's proxies.

    python deploy/ray_serve.py runs/photos-onnx --replicas 2             # a cluster of its own, on this machine
    serve run deploy.ray_serve:build models=runs/photos-onnx replicas=2  # on the running cluster
    serve run deploy/ray_serve.yaml                                      # the same from a configuration

Every replica opens the folders itself: they lie at the same path on every machine. The manual is docs/serving.md,
"Beyond one machine".
"""

import math
import os
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from pydantic import BaseModel, ConfigDict, Field, field_validator

from sightline.deps import require
from sightline.errors import SightlineError
from sightline.model_folder import read_description

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from sightline.serving.limits import Settings

DEPLOYMENT = "sightline"
"""What the deployment is called in a Serve configuration, to set its options there."""


class Arguments(BaseModel):
    """What the application is built from: key=value behind `serve run`, or `args` of a Serve configuration."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    models: list[str]
    """Folders, each as PATH or NAME=PATH; in one text they are separated by commas."""
    replicas: int = Field(default=1, ge=1)
    cpus: float = Field(default=1.0, gt=0)
    """Cores of one replica; Ray places it where so many are free."""
    gpus: float = Field(default=0.0, ge=0)
    """Of one replica."""
    threads: int | None = Field(default=None, ge=1)
    """Threads that a model computes with; as many as `cpus` if left out."""
    device: str = "auto"
    engine: str | None = None
    precision: str | None = None
    max_batch: int | None = Field(default=None, ge=1)
    token_file: Path | None = None
    """Read where the application is built; SIGHTLINE_TOKEN there, if left out."""
    log: bool = True
    """A line of JSON for each request, in the replica's log."""

    @field_validator("models", mode="before")
    @classmethod
    def _separated(cls, given: object) -> object:
        return [part.strip() for part in given.split(",") if part.strip()] if isinstance(given, str) else given


def build(arguments: Arguments) -> Any:
    """The Ray Serve application (ray.serve.Application).

    Raises SightlineError for a folder that is no model and MissingPackageError without ray.
    """
    serve = _ray("ray.serve")
    given = settings(arguments)

    def application() -> "ASGIApp":  # pickled, and called in each replica; the lifespan opens and closes the models
        from sightline.serving.app import App

        app = App(given)

        async def answer(scope: "Scope", receive: "Receive", send: "Send") -> None:
            async def without_id(message: "Message") -> None:
                if message["type"] == "http.response.start":  # Ray's proxy adds the same id: it would stand there twice
                    message["headers"] = [pair for pair in message["headers"] if pair[0] != b"x-request-id"]
                await send(message)

            await app(scope, receive, without_id)

        return answer

    deployed = serve.deployment(
        serve.ingress(application)(),
        name=DEPLOYMENT,
        num_replicas=arguments.replicas,
        ray_actor_options={"num_cpus": arguments.cpus, "num_gpus": arguments.gpus},
        # Ours are the queue and its 429: Ray's default of 5 requests at a time would leave batches of 5.
        max_ongoing_requests=4 * given.limits.max_queue,
        graceful_shutdown_timeout_s=given.limits.deadline_seconds + 5,
        logging_config={"enable_access_log": False},  # ours has a line for each request
    )
    return deployed.bind()


def settings(arguments: Arguments) -> "Settings":
    """What each replica is told, with absolute paths. Raises SightlineError."""
    from sightline.serving.bearer import find_token
    from sightline.serving.limits import Batching, Settings
    from sightline.serving.served import named_paths

    if not arguments.models:
        raise SightlineError("Name at least one model folder to serve, as in models=runs/photos.")
    paths = {name: path.resolve() for name, path in named_paths(tuple(arguments.models)).items()}
    for path in paths.values():
        read_description(path)
    threads = arguments.threads or math.ceil(arguments.cpus)
    return Settings(
        models=tuple(f"{name}={path}" for name, path in paths.items()),
        threads=threads,
        device=arguments.device,
        engine=arguments.engine,
        precision=arguments.precision,
        token=find_token(arguments.token_file),
        access_log=arguments.log,
        batching=Batching(max_batch=arguments.max_batch, decode_threads=threads + 1),
    )


def main(
    models: Annotated[list[str], typer.Argument(metavar="MODEL...", help="Model folders; NAME=PATH names one.")],
    replicas: Annotated[int, typer.Option(help="Processes, each with its own copy of the models.", min=1)] = 1,
    cpus: Annotated[float, typer.Option(help="Cores of each, and its threads.", min=0.1)] = 1.0,
    host: Annotated[str, typer.Option(help="Address to listen at.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="0 takes a free one.", min=0, max=65535)] = 8000,
    engine: Annotated[str | None, typer.Option(help="What computes; the folder's own if left out.")] = None,
    token_file: Annotated[Path | None, typer.Option(help="File with the bearer token to ask for.")] = None,
    log: Annotated[bool, typer.Option("--log/--no-log", help="A line of JSON for each request.")] = True,
) -> None:
    """Serve on a Ray cluster of its own, on this machine, until SIGTERM or Ctrl-C."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # nothing here reports home
    ray, serve = _ray("ray"), _ray("ray.serve")
    arguments = Arguments(models=models, replicas=replicas, cpus=cpus, engine=engine, token_file=token_file, log=log)
    application = build(arguments)
    port = _free(host, port)
    ray.init(address="local", num_cpus=math.ceil(replicas * cpus), include_dashboard=False)
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # as Ctrl-C; ray.init has just set one that aborts
    try:
        serve.start(http_options={"host": host, "port": port})
        serve.run(application)
        print(f"Serving {', '.join(models)} at http://{host}:{port}", flush=True)
        while True:
            signal.pause()
    except KeyboardInterrupt:
        pass
    finally:
        serve.shutdown()  # each replica answers what it accepted
        ray.shutdown()


def _ray(module: str) -> Any:
    return require(module, extra="ray", purpose="Serving on Ray")


def _free(host: str, port: int) -> int:
    """That port, or a free one for 0: Ray would take long to say that it is taken. Raises SightlineError."""
    from sightline.serving.limits import Settings
    from sightline.serving.workers import bind

    with bind(Settings(models=("",), host=host, port=port)) as listening:
        return listening.getsockname()[1]


if __name__ == "__main__":
    command = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None)
    command.command()(main)
    try:
        command()
    except SightlineError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
