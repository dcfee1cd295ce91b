"""timm's own train.py on a network of this package. `python timm_train.py TRAIN_PY NETWORK ARGUMENTS...`"""

import runpy
import sys
from typing import Any

from timm.models import register_model

from sightline.models import create_model

NETWORK = sys.argv[2]


def measured(pretrained: bool = False, num_classes: int = 10, **_: Any) -> Any:  # noqa: FBT001, FBT002 - timm's call
    """The network under the name that train.py is given."""
    del pretrained
    model: Any = create_model(NETWORK, num_classes=num_classes)
    model.num_classes = num_classes
    return model


if __name__ == "__main__":
    register_model(measured)
    script = sys.argv[1]
    sys.argv = [script, "--model", "measured", *sys.argv[3:]]
    runpy.run_path(script, run_name="__main__")
