"""The processes of a study: a terminal's Ctrl-C is for the study and its runs, not for what starts them."""

import signal
import sys
from multiprocessing import forkserver
from pathlib import Path

import pytest

from sightline.tuning.pool import Pool


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_the_server_that_runs_come_from_ignores_ctrl_c_from_the_start(tmp_path: Path) -> None:
    before = signal.getsignal(signal.SIGINT)
    server = forkserver._forkserver
    server._stop()  # one that an earlier test started
    try:
        Pool(tmp_path, side_by_side=1)
        assert signal.getsignal(signal.SIGINT) is before
        status = Path(f"/proc/{server._forkserver_pid}/status").read_text()
        ignored = next(line for line in status.splitlines() if line.startswith("SigIgn:"))
        assert int(ignored.split()[1], 16) >> (signal.SIGINT - 1) & 1
    finally:
        server._stop()
