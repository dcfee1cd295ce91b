"""Overload: ten times what the server can answer, for a minute. Is anything accepted lost, and is its memory bounded?

    python benchmarks/serving_overload.py MODEL IMAGE --seconds 60 --times 10

First the capacity is measured with eight clients; then requests are sent at `--times` that rate, each on a connection
of its own, whether or not earlier ones were answered. Reported: every status, what was lost, the latency of the
accepted, the server's resident memory each second, and how long after the end a request is answered as fast as usual.
"""

import argparse
import asyncio
import json
import os
import re
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

from serving_load import load


async def ask(port: int, request: bytes) -> tuple[str, float]:
    """The status, or what went wrong, and how long it took."""
    begun = time.perf_counter()
    try:
        async with asyncio.timeout(90):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            try:
                writer.write(request)
                line = await reader.readline()
                await reader.read()
            finally:
                writer.close()
    except ConnectionRefusedError:
        return "refused", 0.0
    except (OSError, TimeoutError) as error:
        return f"lost: {type(error).__name__}", time.perf_counter() - begun
    return line.split()[1].decode() if line else "lost: no answer", time.perf_counter() - begun


async def flood(
    port: int, request: bytes, rate: float, seconds: float, pid: int, usual: float
) -> tuple[list[tuple[str, float]], list[float], float]:
    """Send at a rate, in bursts of ten milliseconds. Also the server's MB each second, and seconds to recover."""
    tasks: list[asyncio.Task[tuple[str, float]]] = []
    memory: list[float] = []
    begun = time.perf_counter()
    while (elapsed := time.perf_counter() - begun) < seconds:
        while len(tasks) < rate * elapsed:
            tasks.append(asyncio.create_task(ask(port, request)))
        if len(memory) <= elapsed:
            memory.append(resident(pid))
        await asyncio.sleep(0.01)
    ended = time.perf_counter()
    while True:  # is it its usual self again?
        status, latency = await ask(port, request)
        if status == "200" and latency <= 3 * usual:
            break
    back = time.perf_counter() - ended
    return list(await asyncio.gather(*tasks)), memory, back


def resident(pid: int) -> float:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6


def quantile(values: list[float], share: float) -> float:
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else float("nan")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model")
    parser.add_argument("image", type=Path)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--times", type=float, default=10.0)
    parser.add_argument("--deadline", type=float, default=30.0)
    parser.add_argument("--queue-seconds", type=float, default=1.5)
    parser.add_argument("--server-core", type=int, default=0)
    parser.add_argument("--client-core", type=int, default=1)
    options = parser.parse_args()
    content = options.image.read_bytes()
    head = f"POST /v1/predict HTTP/1.1\r\nhost: x\r\ncontent-type: image/jpeg\r\ncontent-length: {len(content)}\r\n"
    kept, single = (f"{head}{last}\r\n".encode() + content for last in ("", "connection: close\r\n"))
    os.sched_setaffinity(0, {options.client_core})
    command = ["taskset", "-c", str(options.server_core), sys.executable, "-m", "sightline", "serve", options.model]
    command += ["--port", "0", "--threads", "1", "--no-log", "--deadline", str(options.deadline)]
    command += ["--max-queue-seconds", str(options.queue_seconds)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        found = re.search(r":(\d+)$", server.stdout.readline().strip())
        assert found is not None
        port = int(found[1])
        asyncio.run(load(port, kept, 8, 2))
        capacity, _, _ = asyncio.run(load(port, kept, 8, min(10, options.seconds)))
        usual = quantile([asyncio.run(ask(port, single))[1] for _ in range(10)], 0.5)
        rate = options.times * capacity
        answers, memory, back = asyncio.run(flood(port, single, rate, options.seconds, server.pid, usual))
        server.terminate()
    accepted = [latency for status, latency in answers if status == "200"]
    told = {
        "capacity_per_second": round(capacity, 1),
        "sent_per_second": round(len(answers) / options.seconds, 1),
        "outcomes": dict(Counter(status for status, _ in answers)),
        "accepted_p50_seconds": round(quantile(accepted, 0.5), 3),
        "accepted_p99_seconds": round(quantile(accepted, 0.99), 3),
        "memory_mb": [round(value) for value in memory],
        "recovery_seconds": round(back, 2),
    }
    print(json.dumps(told, indent=1))


if __name__ == "__main__":
    main()
