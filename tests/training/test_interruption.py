"""What a run does when it is asked to stop, once and again: in a process of its own, which signals may end."""

import subprocess
import sys

import pytest

ASKED = """
import signal
import sys
from sightline.training.interruption import watch_for_interruption
before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
try:
    with watch_for_interruption() as asked:
        assert not asked()
        for name in sys.argv[1:]:
            signal.raise_signal(signal.Signals[name])
            assert asked()
except KeyboardInterrupt:
    print("at once")
else:
    print("after a checkpoint")
assert before == [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
"""


@pytest.mark.parametrize(
    ("signals", "stops"),
    [
        (("SIGINT",), "after a checkpoint"),
        (("SIGTERM",), "after a checkpoint"),
        (("SIGINT", "SIGTERM"), "after a checkpoint"),  # a study's run at a terminal's Ctrl-C
        (("SIGTERM", "SIGTERM"), "after a checkpoint"),
        (("SIGINT", "SIGINT"), "at once"),
        (("SIGTERM", "SIGINT"), "at once"),
    ],
)
def test_a_run_writes_its_checkpoint_unless_ctrl_c_comes_after_another_signal(
    signals: tuple[str, ...], stops: str
) -> None:
    done = subprocess.run([sys.executable, "-c", ASKED, *signals], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout.strip()) == (0, stops), done.stderr
