"""Load on `sightline serve` and, in the same run, on its peers: requests/s and latency against decode + model alone.

    python benchmarks/serving_load.py --network resnet18 --seconds 10 --rounds 3 --peers-python PEERS/bin/python

Server and client are pinned to a core each. All servers are up, stopped by SIGSTOP but for the one whose turn it is:
they take turns of `--seconds` with the reference, which decodes and runs the same model on the server's core without
HTTP, with batches of 1, 4 and 8. Shares and ratios are of neighbouring turns; the reference's batch and LitServe's form
are those with the best median, for the best of several in each turn would be their luck's. Peers are
benchmarks/serving_peers.py, around the same ONNX file; `sightline-auto` runs that file by whichever engine is fastest
here, in float32; `sightline-bf16` answers in OpenVINO's bfloat16, another precision. Random weights: what a network
computes doesn't change how long it takes.
"""

import argparse
import asyncio
import base64
import json
import os
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import zipfile
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

SIZES = {
    "resnet20": (32, 32),
    "resnet18": (224, 256),
    "timm/mobilenetv3_small_100": (224, 256),
    "timm/mobilenetv3_large_100": (224, 256),
}


def make_model(network: str, folder: Path) -> Path:
    """A model folder with random weights, exported to ONNX. Returns the export."""
    import torch

    from sightline.exporting import export
    from sightline.model_folder import Architecture, Calibration, ModelFolder, ModelSpec, Provenance
    from sightline.models import create_model
    from sightline.preprocess import Preprocess

    torch.manual_seed(0)
    image_size, resize = SIZES[network]
    classes = tuple(f"class {number}" for number in range(10))
    model = create_model(network, num_classes=10, image_size=image_size)
    spec = ModelSpec(
        architecture=Architecture(name=network, num_classes=10, image_size=image_size),
        classes=classes,
        preprocess=Preprocess(image_size=image_size, resize=resize),
        calibration=Calibration(),
        provenance=Provenance(command="", created="", data={"location": "random"}, versions={}),
    )
    written = ModelFolder.write(folder / "model", spec, model.state_dict())
    images = folder / "images"
    for name in classes[:2]:
        (images / name).mkdir(parents=True)
        for number in range(2):
            (images / name / f"{number}.jpg").write_bytes(photo(image_size, seed=number))
    exported = export(written, "onnx", data=str(images), out=folder / "onnx")
    meta = asdict(spec.preprocess) | {"classes": classes}
    (folder / "meta.json").write_text(json.dumps(meta))
    return exported.path


def photo(image_size: int, *, archive: str | None = None, seed: int = 0) -> bytes:
    """A JPEG: of about 100 kB and 500x375 pixels where the network is large, else 32x32."""
    from io import BytesIO

    from PIL import Image

    if archive and image_size > 64:
        with zipfile.ZipFile(archive) as opened:
            names = [info for info in opened.infolist() if info.filename.lower().endswith((".jpg", ".jpeg"))]
            return opened.read(min(names, key=lambda info: abs(info.file_size - 107_000)))
    draws = np.random.default_rng(seed)
    coarse = draws.integers(0, 255, (24, 32, 3), dtype=np.uint8)
    image = Image.fromarray(coarse).resize((500, 375) if image_size > 64 else (32, 32), Image.Resampling.BICUBIC)
    file = BytesIO()
    image.save(file, "JPEG", quality=90)
    return file.getvalue()


REFERENCE = """
import sys, time, numpy as np
from sightline.prediction import Predictor
from sightline.serving.decoding import decoded
content = open(sys.argv[2], "rb").read()
predictor = Predictor.open(sys.argv[1], threads=1)
preprocess = predictor.spec.preprocess
for size in (1, 4, 8):
    predictor.probabilities(np.stack([decoded(content, preprocess, 10**9)] * size))
for line in sys.stdin:
    rates = []
    for size in (1, 4, 8):
        start, count = time.perf_counter(), 0
        while time.perf_counter() - start < float(line) / 3:
            predictor.probabilities(np.stack([decoded(content, preprocess, 10**9) for _ in range(size)]))
            count += size
        rates.append(count / (time.perf_counter() - start))
    print(*rates, flush=True)
"""


class Reference:
    """Decoding and the model, on a core, without HTTP."""

    def __init__(self, model: Path, image: Path, core: int) -> None:
        command = ["taskset", "-c", str(core), sys.executable, "-c", REFERENCE, str(model), str(image)]
        pipe = subprocess.PIPE
        self.process = subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True, env=environment())

    def turn(self, seconds: float) -> list[float]:
        """Images a second with batches of 1, 4 and 8."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(f"{seconds}\n")
        self.process.stdin.flush()
        return [float(rate) for rate in self.process.stdout.readline().split()]


def environment() -> dict[str, str]:
    return os.environ | {"OMP_NUM_THREADS": "1"}


class Server:
    """One of them, in a session of its own, so that its children stop and end with it."""

    def __init__(self, name: str, work: Path, options: argparse.Namespace) -> None:
        self.name, self.port = name, free_port()
        if name.startswith("sightline"):
            served = {
                "sightline": ["onnx"],
                "sightline-auto": ["onnx", "--engine", "auto"],
                "sightline-bf16": ["model", "--engine", "openvino", "--precision", "bf16"],
            }[name]
            program = [sys.executable, "-m", "sightline", "serve", str(work / served[0]), *served[1:]]
            program += ["--threads", "1", "--no-log", "--port", str(self.port)]
        else:
            here = Path(__file__).with_name("serving_peers.py")
            program = [options.peers_python, str(here), name, str(work / "onnx" / "model.onnx")]
            program += [str(work / "meta.json"), str(self.port)]
        quiet, core = subprocess.DEVNULL, str(options.server_core)
        self.process = subprocess.Popen(
            ["taskset", "-c", core, *program], stdout=quiet, stderr=quiet, env=environment(), start_new_session=True
        )

    def send(self, number: signal.Signals) -> None:
        os.killpg(self.process.pid, number)

    def turn(self, request: bytes, clients: int, seconds: float) -> tuple[float, list[float], int]:
        self.send(signal.SIGCONT)
        asyncio.run(load(self.port, request, clients, 0.3))
        found = asyncio.run(load(self.port, request, clients, seconds))
        self.send(signal.SIGSTOP)
        return found


def request_of(server: str, content: bytes) -> bytes:
    """Raw bytes where the server takes them, JSON with base64 for LitServe, which can't."""
    body, kind = content, "image/jpeg"
    if server.startswith("litserve"):
        body, kind = json.dumps({"image": base64.b64encode(content).decode()}).encode(), "application/json"
    head = f"POST /v1/predict HTTP/1.1\r\nhost: x\r\ncontent-type: {kind}\r\ncontent-length: {len(body)}\r\n\r\n"
    return head.encode() + body


async def load(port: int, request: bytes, clients: int, seconds: float) -> tuple[float, list[float], int]:
    """Requests/s, each latency in seconds, and how many were not answered with 200."""
    latencies: list[float] = []
    failed = 0
    end = time.perf_counter() + seconds

    async def ask() -> None:
        nonlocal failed
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        while time.perf_counter() < end:
            begun = time.perf_counter()
            writer.write(request)
            head = await reader.readuntil(b"\r\n\r\n")
            length = next(int(line[15:]) for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:"))
            await reader.readexactly(length)
            latencies.append(time.perf_counter() - begun)
            failed += b" 200 " not in head[:16]
        writer.close()

    begun = time.perf_counter()
    await asyncio.gather(*(ask() for _ in range(clients)))
    return len(latencies) / (time.perf_counter() - begun), latencies, failed


def wait_until_ready(port: int, request: bytes) -> None:
    for _ in range(240):
        try:
            asyncio.run(load(port, request, 1, 0.3))
        except (OSError, asyncio.IncompleteReadError):
            time.sleep(0.5)
        else:
            return
    raise SystemExit("the server did not start")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def measure(work: Path, image: Path, options: argparse.Namespace) -> list[dict[str, Any]]:
    """A row for each server, number of clients and round; `reference` is of the turns before and after."""
    content = image.read_bytes()
    reference = Reference(work / "onnx", image, options.server_core)
    servers = [Server(name, work, options) for name in options.servers]
    rows: list[dict[str, Any]] = []
    try:
        for server in servers:
            wait_until_ready(server.port, request_of(server.name, content))
            server.send(signal.SIGSTOP)
        before = reference.turn(options.seconds)
        for number in range(options.rounds):
            for clients in options.clients:
                for server in servers:
                    rate, latencies, failed = server.turn(request_of(server.name, content), clients, options.seconds)
                    after = reference.turn(options.seconds)
                    p50 = 1000 * statistics.median(latencies)
                    row: dict[str, Any] = {"server": server.name, "clients": clients, "round": number, "rate": rate}
                    row |= {"p50_ms": p50, "latencies_ms": [1000 * value for value in latencies], "failed": failed}
                    row |= {"reference": [statistics.mean(pair) for pair in zip(before, after, strict=True)]}
                    rows.append(row)
                    before = after
    finally:
        for server in servers:
            server.send(signal.SIGKILL)
        reference.process.kill()
    best = max(range(3), key=lambda place: statistics.median(row["reference"][place] for row in rows))
    for row in rows:
        row |= {"share": row["rate"] / row["reference"][best], "added_ms": row["p50_ms"] - 1000 / row["reference"][0]}
    return rows


def told(rows: list[dict[str, Any]], server: str, clients: int) -> str:
    """Medians over the rounds with their range; percentiles of all latencies together."""
    same = [row for row in rows if (row["server"], row["clients"]) == (server, clients)]
    words = [f"{key} {spread([row[key] for row in same])}" for key in ("rate", "share", "added_ms")]
    latencies = sorted(value for row in same for value in row["latencies_ms"])
    p50, p99 = (latencies[min(len(latencies) - 1, int(share * len(latencies)))] for share in (0.5, 0.99))
    forms = [
        [row["share"] for row in rows if (row["server"], row["clients"]) == (form, clients)]
        for form in dict.fromkeys(row["server"] for row in rows)
        if form.startswith("litserve")
    ]
    if forms and server.startswith("sightline"):
        best = max(forms, key=statistics.median)
        ratios = [row["share"] / share for row, share in zip(same, best, strict=True)]
        words.append(f"of LitServe's better {spread(ratios)}")
    failed = sum(row["failed"] for row in same)
    return f"{server:14} {clients:3} clients  p50 {p50:.3g} ms  p99 {p99:.3g} ms  {'  '.join(words)}  failed {failed}"


def spread(values: list[float]) -> str:
    return f"{statistics.median(values):.3g} ({min(values):.3g} to {max(values):.3g})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--network", default="resnet18", choices=SIZES)
    parser.add_argument("--servers", nargs="+", default=["sightline", "fastapi", "litserve", "litserve8"])
    parser.add_argument("--clients", nargs="+", type=int, default=[1, 8, 32, 64])
    parser.add_argument("--seconds", type=float, default=2.0)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--server-core", type=int, default=0)
    parser.add_argument("--client-core", type=int, default=1)
    parser.add_argument("--archive", help="A zip of photos to take one of 107 kB from.")
    parser.add_argument("--peers-python", default=sys.executable, help="Has fastapi, litserve and onnxruntime.")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        make_model(options.network, work)
        image = work / "photo.jpg"
        image.write_bytes(photo(SIZES[options.network][0], archive=options.archive))
        os.sched_setaffinity(0, {options.client_core})
        rows = measure(work, image, options)
    for server in options.servers:
        for clients in options.clients:
            print(told(rows, server, clients))
    if options.out:
        plain = [{key: value for key, value in row.items() if key != "latencies_ms"} for row in rows]
        options.out.write_text(json.dumps({"network": options.network, "rows": plain}, indent=1) + "\n")


if __name__ == "__main__":
    main()
