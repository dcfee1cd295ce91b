"""The bar on a terminal, and what is printed while it is drawn."""

import os
import pty
import subprocess
import sys
from pathlib import Path

PRINTING = """
from sightline.progress import track
for number in track(range(3), total=3, label="counting"):
    print(number)
"""


def test_what_is_printed_meanwhile_goes_into_its_file_and_the_bar_to_the_terminal(tmp_path: Path) -> None:
    ours, theirs = pty.openpty()
    with (tmp_path / "out").open("w") as out:
        subprocess.run([sys.executable, "-c", PRINTING], stdout=out, stderr=theirs, check=True, timeout=60)
    os.close(theirs)
    drawn = os.read(ours, 65536)
    os.close(ours)
    assert (tmp_path / "out").read_text() == "0\n1\n2\n"
    assert b"counting" in drawn
