"""Load on `sightline serve` and, in the same run, on its peers: requests/s and latency against decode + model alone.

    python benchmarks/serving_load.py --network resnet18 --seconds 10 --rounds 3 --peers-python PEERS/bin/python

Server and client are pinned to a core each. The share is of decoding and running the same model on the server's core
without HTTP, at the better of batches of 1 and 8, measured before and after each server's turn. Peers are
benchmarks/serving_peers.py. Random weights: what a network computes doesn't change how long it takes.
"""

import argparse
import asyncio
import base64
import json
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import zipfile
from dataclasses import asdict
from pathlib import Path

import numpy as np

SIZES = {"resnet20": (32, 32), "resnet18": (224, 256), "timm/mobilenetv3_large_100": (224, 256)}


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
best = 0.0
for size in (1, 8):
    predictor.probabilities(np.stack([decoded(content, preprocess, 10**9)] * size))
    start, count = time.perf_counter(), 0
    while time.perf_counter() - start < float(sys.argv[3]):
        predictor.probabilities(np.stack([decoded(content, preprocess, 10**9) for _ in range(size)]))
        count += size
    best = max(best, count / (time.perf_counter() - start))
    if size == 1:
        print(1000 / best)
print(best)
"""


def reference(model: Path, image: Path, core: int, seconds: float) -> tuple[float, float]:
    """Milliseconds for one image, and images a second at the better batch, without HTTP."""
    command = ["taskset", "-c", str(core), sys.executable, "-c", REFERENCE, str(model), str(image), str(seconds)]
    done = subprocess.run(command, check=True, capture_output=True, text=True, env=environment())
    one, best = map(float, done.stdout.split())
    return one, best


def environment() -> dict[str, str]:
    return os.environ | {"OMP_NUM_THREADS": "1"}


def start(server: str, work: Path, port: int, core: int, peers: str) -> subprocess.Popen[bytes]:
    if server == "sightline":
        program = [sys.executable, "-m", "sightline", "serve", str(work / "onnx"), "--threads", "1", "--no-log"]
        program += ["--port", str(port)]
    else:
        here = Path(__file__).with_name("serving_peers.py")
        program = [peers, str(here), server, str(work / "onnx" / "model.onnx"), str(work / "meta.json"), str(port)]
    quiet = subprocess.DEVNULL
    return subprocess.Popen(["taskset", "-c", str(core), *program], stdout=quiet, stderr=quiet, env=environment())


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


def measure(server: str, work: Path, image: Path, options: argparse.Namespace) -> list[dict[str, object]]:
    port, request = free_port(), request_of(server, image.read_bytes())
    one, best = reference(work / "onnx", image, options.server_core, options.seconds / 2)
    process = start(server, work, port, options.server_core, options.peers_python)
    rows: list[dict[str, object]] = []
    try:
        wait_until_ready(port, request)
        for clients in options.clients:
            rate, latencies, failed = asyncio.run(load(port, request, clients, options.seconds))
            ordered = sorted(latencies)
            p50, p99 = (1000 * ordered[min(len(ordered) - 1, int(share * len(ordered)))] for share in (0.5, 0.99))
            row = {"server": server, "clients": clients, "rate": rate, "p50_ms": p50, "p99_ms": p99, "failed": failed}
            rows.append(row)
    finally:
        process.terminate()
        process.wait(30)
    one_after, best_after = reference(work / "onnx", image, options.server_core, options.seconds / 2)
    for row in rows:
        row["share"] = float(row["rate"]) / statistics.mean([best, best_after])  # type: ignore[arg-type]
        row["added_ms"] = float(row["p50_ms"]) - statistics.mean([one, one_after])  # type: ignore[arg-type]
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--network", default="resnet18", choices=SIZES)
    parser.add_argument("--servers", nargs="+", default=["sightline", "fastapi", "litserve", "litserve8"])
    parser.add_argument("--clients", nargs="+", type=int, default=[1, 8, 32, 64])
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--server-core", type=int, default=0)
    parser.add_argument("--client-core", type=int, default=1)
    parser.add_argument("--archive", help="A zip of photos to take one of 107 kB from.")
    parser.add_argument("--peers-python", default=sys.executable, help="Has fastapi, litserve and onnxruntime.")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    rows: list[dict[str, object]] = []
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        make_model(options.network, work)
        image = work / "photo.jpg"
        image.write_bytes(photo(SIZES[options.network][0], archive=options.archive))
        os.sched_setaffinity(0, {options.client_core})
        for _ in range(options.rounds):
            for server in options.servers:
                rows += measure(server, work, image, options)
    for server in options.servers:
        for clients in options.clients:
            same = [row for row in rows if (row["server"], row["clients"]) == (server, clients)]
            figures = {
                key: [float(row[key]) for row in same] for key in ("rate", "p50_ms", "p99_ms", "share", "added_ms")
            }  # type: ignore[arg-type]
            told = "  ".join(
                f"{key} {statistics.median(values):.4g} ({min(values):.4g} to {max(values):.4g})"
                for key, values in figures.items()
            )
            print(f"{server:10} {clients:3} clients  {told}  failed {sum(int(row['failed']) for row in same)}")  # type: ignore[call-overload]
    if options.out:
        options.out.write_text(json.dumps({"network": options.network, "rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
