"""Job: a network that is timed, and how its process opens it."""

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sightline.conversion import noise
from sightline.engines import Settings, open_network
from sightline.exported_folder import open_folder
from sightline.measuring.foreign import open_foreign

Called = Callable[[NDArray[Any]], Any]


@dataclass(frozen=True, kw_only=True)
class Job:
    """A network, an engine, and what it is given."""

    path: str
    """Of a model folder, an exported one, or an ONNX file that is another's."""
    engine: str
    precision: str = "float32"
    threads: int | None = None
    device: str = "cpu"
    steady: bool = False
    batch_size: int
    image_size: int | None = None
    """Of images for an ONNX file that takes any size."""
    pixels: str | None = None
    """A .npy file of (N, 3, image_size, image_size) to call a folder's network with, in place of noise."""

    @property
    def foreign(self) -> bool:
        """Whether it is a file that is no folder of ours."""
        return Path(self.path).is_file()

    def open(self) -> tuple[Called, NDArray[Any]]:
        """The network, and a batch to call it with. Raises SightlineError."""
        settings = Settings(precision=self.precision, threads=self.threads, device=self.device, steady=self.steady)
        if self.foreign:
            return open_foreign(self.path, self.engine, settings, self.batch_size, self.image_size)
        folder = open_folder(self.path)
        network = open_network(folder, self.engine, settings)
        if self.pixels is None:
            return network, noise(folder.spec, self.batch_size)
        stored = np.load(self.pixels, mmap_mode="r")
        return network, np.array(stored[np.arange(self.batch_size) % len(stored)])

    def to_json(self) -> str:
        """As `from_json` reads it."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> "Job":
        """The job that was written by `to_json`."""
        return cls(**json.loads(text))
