"""The application on Ray Serve, on a local cluster of two nodes with one core each: a replica fits on neither twice."""

import http.client
import importlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Generator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from making import make_folder, make_photos
from running import until

from sightline.client import Client
from sightline.exporting import export
from sightline.prediction import Predictor

ROOT = Path(__file__).parents[2]
TOKEN = "only-for-tests"

pytestmark = [
    pytest.mark.slow,
    pytest.mark.xdist_group("ray"),
    pytest.mark.filterwarnings("default"),  # ray's own
]


@dataclass
class Served:
    """The application on the cluster."""

    address: str
    model: Path
    photos: list[Path]
    serve: Any
    build: Any
    arguments: Any

    def ask(self, path: str, body: bytes | None = None, token: str = TOKEN) -> tuple[int, dict[str, Any], Any]:
        headers = {"authorization": f"Bearer {token}", "content-type": "image/jpeg"}
        request = urllib.request.Request(self.address + path, body, headers)
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                return answer.status, json.load(answer), answer.headers
        except urllib.error.HTTPError as error:
            with error:
                return error.code, json.loads(error.read()), error.headers

    def running(self) -> int:
        applications = self.serve.status().applications
        return applications["default"].deployments["sightline"].replica_states.get("RUNNING", 0)


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Generator[Served]:
    ray = pytest.importorskip("ray")
    pytest.importorskip("ray.serve")
    from ray import serve
    from ray.cluster_utils import Cluster

    folder = tmp_path_factory.mktemp("ray")
    (folder / "token").write_text(TOKEN)
    photos = sorted(make_photos(folder / "data", count=4).rglob("*.jpg"))
    model = export(
        make_folder(folder / "model"), "onnx", pixels=True, data=folder / "data"
    ).path  # opened without torch
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(ROOT))
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        module = importlib.import_module("deploy.ray_serve")
        node = {"num_cpus": 1, "object_store_memory": 100 * 2**20}
        cluster = Cluster(initialize_head=True, head_node_args=node | {"include_dashboard": False})
        cluster.add_node(**node)
        ray.init(address=cluster.address, log_to_driver=False)
        port = free_port()
        serve.start(proxy_location="HeadOnly", http_options={"port": port})  # two on one machine would share the port
        arguments = module.Arguments(models=[str(model)], replicas=2, log=False, token_file=folder / "token")
        serve.run(module.build(arguments))
        yield Served(f"http://127.0.0.1:{port}", model, photos, serve, module.build, arguments)
        serve.shutdown()
        ray.shutdown()
        cluster.shutdown()


def free_port() -> int:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        return listening.getsockname()[1]


def test_two_nodes_answer_as_predict_does(served: Served) -> None:
    import ray

    assert served.running() == 2
    assert len([node for node in ray.nodes() if node["Alive"]]) == 2
    assert ray.available_resources().get("CPU", 0) == 0  # each node's one core has a replica
    expected = rounded(Predictor.open(served.model).predict(served.photos))
    with Client(served.address, token=TOKEN) as client:
        for _ in range(4):
            assert rounded(client.predict(served.photos)) == expected


def rounded(predictions: Any) -> list[list[tuple[str, float]]]:
    return [[(guess.label, round(guess.probability, 6)) for guess in row.guesses] for row in predictions]


@pytest.mark.parametrize(
    ("path", "body", "status", "code"),
    [
        ("/v1/predict", b"no image", 422, "unreadable_image"),
        ("/v1/predict?top_k=x", b"", 400, "invalid_request"),
        ("/v1/predict?model=nix", b"\xff\xd8", 404, "unknown_model"),
        ("/v1/predict", None, 405, "method_not_allowed"),
        ("/nix", None, 404, "not_found"),
    ],
)
def test_errors_keep_their_form(served: Served, path: str, body: bytes | None, status: int, code: str) -> None:
    got, told, _ = served.ask(path, body)
    assert got == status
    assert code in json.dumps(told)
    assert served.ask("/v2/health/ready")[0] == 200


def test_a_body_that_is_too_large_is_refused_by_its_stated_length(served: Served) -> None:
    connection = http.client.HTTPConnection(served.address.removeprefix("http://"), timeout=60)
    connection.putrequest("POST", "/v1/predict")
    connection.putheader("authorization", f"Bearer {TOKEN}")
    connection.putheader("content-length", str(33 * 2**20))
    connection.endheaders()
    answer = connection.getresponse()
    assert (answer.status, json.load(answer)["error"]["code"]) == (413, "body_too_large")
    connection.close()


def test_the_token_is_asked_for_and_an_answer_has_one_request_id(served: Served) -> None:
    status, told, headers = served.ask("/v1/models", token="wrong")
    assert (status, told["error"]["code"]) == (401, "unauthorized")
    assert headers.get_all("x-request-id") == [told["error"]["request_id"]]


class Askers:
    """Threads that ask one after another until told to stop."""

    def __init__(self, served: Served, count: int = 2) -> None:
        self.statuses: list[int] = []
        self._stop = threading.Event()
        self._photo = served.photos[0].read_bytes()
        self._threads = [threading.Thread(target=self._ask, args=(served,)) for _ in range(count)]
        for thread in self._threads:
            thread.start()

    def _ask(self, served: Served) -> None:
        while not self._stop.is_set():
            try:
                self.statuses.append(served.ask("/v1/predict", self._photo)[0])
            except (OSError, ValueError):  # no answer, or one that isn't ours
                self.statuses.append(0)

    def end(self) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(60)


def test_replicas_replaced_one_by_one_lose_no_request(served: Served) -> None:
    askers = Askers(served)
    until(lambda: len(askers.statuses) > 10, seconds=120)
    changed = served.arguments.model_copy(update={"max_batch": 8})
    served.serve.run(served.build(changed))
    count = len(askers.statuses)
    until(lambda: len(askers.statuses) > count + 10, seconds=120)
    askers.end()
    assert set(askers.statuses) == {200}


def test_a_killed_replica_comes_back(served: Served) -> None:
    import ray

    before = replicas()
    ray.kill(ray.get_actor(before[0], namespace="serve"))
    until(lambda: served.running() == 2 and len(set(replicas()) - set(before)) == 1, seconds=240)
    photo = served.photos[0].read_bytes()
    assert {served.ask("/v2/health/ready")[0] for _ in range(20)} == {200}
    assert {served.ask("/v1/predict", photo)[0] for _ in range(20)} == {200}


def replicas() -> list[str]:
    """The names of the replicas' actors."""
    import ray

    named = ray.util.list_named_actors(all_namespaces=True)
    return sorted(actor["name"] for actor in named if "REPLICA" in actor["name"] and "sightline" in actor["name"])


def test_the_script_serves_and_ends_with_what_it_started(tmp_path: Path, served: Served) -> None:
    with (tmp_path / "log").open("w") as log:
        process = subprocess.Popen(
            [sys.executable, ROOT / "deploy" / "ray_serve.py", served.model, "--port", "0", "--replicas", "2"],
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
            env=os.environ | {"OMP_NUM_THREADS": "1"},
        )
    assert process.stdout is not None
    with process.stdout:
        lines = iter(process.stdout.readline, "")
        address = next((found[0] for line in lines if (found := re.search(r"http://\S+", line))), None)
        assert address is not None, (tmp_path / "log").read_text()
        with Client(address) as client:
            [prediction] = client.predict([served.photos[0]])
        started = offspring(process.pid)
        begin = time.monotonic()
        process.send_signal(signal.SIGTERM)
        process.stdout.read()
    assert process.wait(60) == 0, (tmp_path / "log").read_text()
    assert time.monotonic() - begin < 30
    assert prediction.guesses
    until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in started))


def offspring(pid: int) -> list[int]:
    found = [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    return found + [deeper for child in found for deeper in offspring(child)]
