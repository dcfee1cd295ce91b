"""The servers that benchmarks/serving_load.py compares with, around the same ONNX file.

Run by an environment that has them: serving_peers.py fastapi|litserve|litserve8 MODEL.onnx META.json PORT
Each decodes with Pillow, resizes, cuts and normalises as the model wants, and answers the five best classes.
"""

import asyncio
import base64
import json
import sys
from io import BytesIO
from pathlib import Path

import litserve
import numpy as np
import onnxruntime
from PIL import Image


class Answers:
    """What each server computes."""

    def __init__(self, model: str, meta: str) -> None:
        told = json.loads(Path(meta).read_text())
        self.classes, self.size, self.resize = told["classes"], told["image_size"], told["resize"]
        self.mean = np.array(told["mean"], np.float32).reshape(3, 1, 1) * 255
        self.scale = 1 / (np.array(told["std"], np.float32).reshape(3, 1, 1) * 255)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        self.session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        self.input = self.session.get_inputs()[0].name

    def decode(self, content: bytes) -> np.ndarray:
        image = Image.open(BytesIO(content)).convert("RGB")
        short = min(image.size)
        width, height = image.width * self.resize // short, image.height * self.resize // short
        left, top = round((width - self.size) / 2), round((height - self.size) / 2)
        image = image.resize((width, height), Image.Resampling.BILINEAR)
        pixels = np.asarray(image.crop((left, top, left + self.size, top + self.size)))
        return (pixels.transpose(2, 0, 1).astype(np.float32) - self.mean) * self.scale

    def run(self, images: np.ndarray) -> np.ndarray:
        logits = self.session.run(None, {self.input: images})[0]
        powers = np.exp(logits - logits.max(1, keepdims=True))
        return powers / powers.sum(1, keepdims=True)

    def best(self, row: np.ndarray) -> list[dict[str, object]]:
        return [{"label": self.classes[k], "probability": float(row[k])} for k in np.argsort(-row)[:5]]


def run_fastapi(answers: Answers, port: int) -> None:
    import uvicorn
    from fastapi import FastAPI, Request

    app = FastAPI()

    def answer(content: bytes) -> list[dict[str, object]]:
        return answers.best(answers.run(answers.decode(content)[None])[0])

    @app.post("/v1/predict")
    async def predict(request: Request) -> list[dict[str, object]]:
        return await asyncio.to_thread(answer, await request.body())

    uvicorn.run(app, port=port, log_level="error")


class Api(litserve.LitAPI):
    """LitServe's: it pickles the class, so it stands at the module's top."""

    def __init__(self, model: str, meta: str, **batching: float) -> None:
        super().__init__(api_path="/v1/predict", **batching)
        self.files, self.batched = (model, meta), bool(batching)

    def setup(self, device: str) -> None:  # noqa: ARG002
        self.answers = Answers(*self.files)

    def decode_request(self, request: dict[str, str]) -> np.ndarray:
        return self.answers.decode(base64.b64decode(request["image"]))

    def batch(self, inputs: list[np.ndarray]) -> np.ndarray:
        return np.stack(inputs)

    def unbatch(self, output: np.ndarray) -> list[np.ndarray]:
        return list(output)

    def predict(self, images: np.ndarray) -> np.ndarray:
        return self.answers.run(images if self.batched else images[None])

    def encode_response(self, row: np.ndarray) -> dict[str, object]:
        return {"best": self.answers.best(row if self.batched else row[0])}


def run_litserve(model: str, meta: str, port: int, batch: int) -> None:
    api = Api(model, meta, max_batch_size=batch, batch_timeout=0.005) if batch > 1 else Api(model, meta)
    server = litserve.LitServer(api, accelerator="cpu", workers_per_device=1)
    server.run(port=port, log_level="error", generate_client_file=False)


if __name__ == "__main__":
    kind, onnx_file, meta_file, number = sys.argv[1:]
    if kind == "fastapi":
        run_fastapi(Answers(onnx_file, meta_file), int(number))
    else:
        run_litserve(onnx_file, meta_file, int(number), 8 if kind == "litserve8" else 1)
