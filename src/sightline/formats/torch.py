"""torch.export's program, .pt2: for whoever has PyTorch, without this package or the network's source.

The program is the very one that the other formats are converted from, so that its logits are the model's own.
Opening one with `torch.export.load` runs what it says; `safe_program` looks through it first.

Metadata: an extra file of the archive, sightline.json.
"""

import json
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sightline.deps import require_torch
from sightline.errors import ModelError, SightlineError
from sightline.formats import FLOAT32, Format, Graph
from sightline.safe_program import check_program

FILE = "model.pt2"
METADATA = "sightline.json"


class ProgramRunner:
    """A loaded program."""

    def __init__(self, path: Path, threads: int | None = None) -> None:
        require_torch("Running a .pt2 program")
        import torch

        check_program(path)
        if threads is not None:
            torch.set_num_threads(threads)  # of the whole process: torch has no number of its own for a network
        try:
            self.module = torch.export.load(path).module()
        except (RuntimeError, ValueError, KeyError, AttributeError, zipfile.BadZipFile) as error:
            raise ModelError(f"{str(path)!r} can't be opened: {str(error).splitlines()[0]}") from error

    def run(self, images: NDArray[Any]) -> list[NDArray[np.float32]]:
        """The outputs in the graph's order."""
        import torch

        with torch.inference_mode():
            answers = self.module(torch.from_numpy(images))
        return [answer.numpy() for answer in (answers if isinstance(answers, tuple) else (answers,))]


def write(graph: Graph, folder: Path) -> dict[str, Any]:
    """Write model.pt2. Raises ModelError when the network can't be captured."""
    import torch

    metadata = json.dumps(dict(graph.metadata), ensure_ascii=False)
    program = graph.program()
    try:
        torch.export.save(program, folder / FILE, extra_files={METADATA: metadata})
    except RuntimeError as error:  # a full disk, say
        raise SightlineError(f"Could not write {FILE}: {str(error).splitlines()[0]}") from error
    return {"input": graph.input_name, "outputs": list(graph.output_names)}


ENTRY = Format(
    title="torch.export's program (.pt2)",
    extra=None,
    modules=("torch",),
    tolerances={"float32": FLOAT32},
    write=write,
    open=lambda folder, _precision, threads: ProgramRunner(folder / FILE, threads),
)
