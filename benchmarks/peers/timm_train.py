"""timm's own train.py on a network of this package. `python timm_train.py TRAIN_PY NETWORK PIXELS ARGUMENTS...`"""

import runpy
import sys
from typing import Any

from timm.models import register_model

from sightline.models import create_model

NETWORK, PIXELS = sys.argv[2], int(sys.argv[3])


def measured(pretrained: bool = False, num_classes: int = 10, **_: Any) -> Any:  # noqa: FBT001, FBT002 - timm's call
    """The network under the name that train.py is given."""
    del pretrained
    model: Any = create_model(NETWORK, num_classes=num_classes, image_size=PIXELS)
    model.num_classes = num_classes
    return model


if __name__ == "__main__":
    register_model(measured)
    script = sys.argv[1]
    sys.argv = [script, "--model", "measured", *sys.argv[4:]]
    runpy.run_path(script, run_name="__main__")
