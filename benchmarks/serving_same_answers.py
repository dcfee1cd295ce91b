"""Are the server's answers those of `predict`? Photos in three encodings, from eight clients at a time.

    python benchmarks/serving_same_answers.py MODEL PHOTOS.zip

Probabilities of every class are compared after rounding to 1e-6, which is how both are printed. The clients ask at
once, so that images meet in batches; an engine whose last bits depend on the batch can then differ in the last digit.
"""

import base64
import http.client
import json
import re
import subprocess
import sys
import zipfile
from concurrent.futures import ThreadPoolExecutor

from sightline.client import _form
from sightline.prediction import Predictor


def ask(port: int, body: bytes, kind: str) -> list[dict[str, float]]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=120)
    connection.request("POST", "/v1/predict?probabilities=true", body, {"content-type": kind})
    answer = json.loads(connection.getresponse().read())
    connection.close()
    return [image["probabilities"] for image in answer["images"]]


def encodings(contents: list[bytes]) -> dict[str, list[tuple[bytes, str]]]:
    fours = [contents[place : place + 4] for place in range(0, len(contents), 4)]
    coded = [
        json.dumps({"images": [base64.b64encode(content).decode() for content in four]}).encode() for four in fours
    ]
    return {
        "raw bytes": [(content, "image/jpeg") for content in contents],
        "form": [_form(four) for four in fours],
        "JSON": [(text, "application/json") for text in coded],
    }


def main() -> None:
    model, archive, *options = sys.argv[1:]
    with zipfile.ZipFile(archive) as opened:
        names = [name for name in opened.namelist() if name.lower().endswith((".jpg", ".jpeg"))][:200]
        contents = [opened.read(name) for name in names]
    predictor = Predictor.open(model, threads=1)
    every = len(predictor.spec.classes)
    expected = [
        {guess.label: round(guess.probability, 6) for guess in prediction.guesses}
        for prediction in predictor.predict(contents, top_k=every)
    ]
    command = [sys.executable, "-m", "sightline", "serve", model, "--port", "0", "--threads", "1", "--no-log", *options]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        found = re.search(r":(\d+)$", server.stdout.readline().strip())
        assert found is not None
        for encoding, requests in encodings(contents).items():
            with ThreadPoolExecutor(8) as pool:
                rows = [row for rows in pool.map(lambda r: ask(int(found[1]), *r), requests) for row in rows]
            differences = [
                abs(row[label] - value)
                for row, want in zip(rows, expected, strict=True)
                for label, value in want.items()
            ]
            same = sum(row == want for row, want in zip(rows, expected, strict=True))
            print(f"{encoding:9}  {same} of {len(rows)} images the same; largest difference {max(differences):.1e}")
        server.terminate()


if __name__ == "__main__":
    main()
