"""Hostile requests: by a fuzzer over the API's description, and images whose bytes were changed.

SIGHTLINE_FUZZ is how many requests each operation and each format gets, 40 if it isn't set.
"""

import http.client
import os
from collections.abc import Callable
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, settings
from PIL import Image
from running import Running
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import response_schema_conformance, status_code_conformance

from sightline.model_folder import ModelFolder
from sightline.serving.openapi import document

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore::DeprecationWarning")]

COUNT = int(os.environ.get("SIGHTLINE_FUZZ", "40"))
FORMATS = ("JPEG", "PNG", "GIF", "WEBP", "TIFF")
GROWTH = 150 * 2**20
"""Bytes that a server may grow by: allocators keep what decoders used once."""

schema = schemathesis.openapi.from_dict(document())


@pytest.fixture(scope="module")
def fuzzed(served_model: ModelFolder, start_server: Callable[..., Running]) -> Running:
    return start_server(served_model.path, "--no-log")


@schema.parametrize()
@settings(
    max_examples=COUNT,
    deadline=None,
    derandomize=True,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=list(HealthCheck),
)
def test_no_request_that_the_description_allows_or_forbids_breaks_the_server(
    case: schemathesis.Case, fuzzed: Running
) -> None:
    answer = case.call(base_url=fuzzed.address)
    case.validate_response(answer, checks=[not_a_server_error, status_code_conformance, response_schema_conformance])
    assert fuzzed.process.poll() is None


def images_of(kind: str) -> list[bytes]:
    """Small images of one format: colour, grey, with a palette or transparency, with metadata."""
    draws = np.random.default_rng(0)
    colour = Image.fromarray(draws.integers(0, 255, (40, 50, 3), dtype=np.uint8))
    exif = Image.Exif()
    exif[0x0112] = 6
    made: list[bytes] = []
    for image in (colour, colour.convert("L"), colour.convert("P"), colour.convert("RGBA"), colour.convert("CMYK")):
        file = BytesIO()
        try:
            image.save(file, kind, exif=exif)
        except (OSError, ValueError):  # a mode that the format doesn't have
            continue
        made.append(file.getvalue())
    return made


def mutated(content: bytes, draws: np.random.Generator) -> bytes:
    """Some bytes changed, cut out, doubled or cut off; the first ones stay, so that the format is found."""
    changed = bytearray(content)
    for _ in range(int(draws.integers(1, 12))):
        place = int(draws.integers(4, max(5, len(changed))))
        length = int(draws.integers(1, 20))
        match int(draws.integers(0, 5)):
            case 0:
                changed[place : place + 1] = bytes([int(draws.integers(0, 256))])
            case 1:
                del changed[place : place + length]
            case 2:
                changed[place:place] = changed[place : place + length]
            case 3:
                changed[place : place + 4] = int(draws.choice([0, 1, 255, 65535, 2**31 - 1, 2**32 - 1])).to_bytes(
                    4, "big"
                )
            case _:
                changed = changed[: max(8, int(len(changed) * draws.random()))] if draws.random() < 0.2 else changed
    return bytes(changed)


def resident(pid: int) -> int:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def test_no_bytes_break_the_server_or_fill_its_memory(fuzzed: Running) -> None:
    draws = np.random.default_rng(1)
    connection = http.client.HTTPConnection("127.0.0.1", fuzzed.port, timeout=60)
    statuses: dict[int, int] = {}
    before = 0
    for number in range(COUNT):
        for kind in FORMATS:
            originals = images_of(kind)
            content = mutated(originals[number % len(originals)], draws)
            connection.request("POST", "/v1/predict", content, {"content-type": "image/jpeg"})
            answer = connection.getresponse()
            answer.read()
            statuses[answer.status] = statuses.get(answer.status, 0) + 1
        if number == COUNT // 4:
            before = resident(fuzzed.process.pid)
    assert set(statuses) <= {200, 422}
    assert min(statuses.values()) > 0
    assert resident(fuzzed.process.pid) - before < GROWTH
    connection.request("GET", "/v2/health/ready")
    assert connection.getresponse().status == 200
    connection.close()
