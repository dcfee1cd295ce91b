"""What a run does when it is asked to stop, once and again."""

import signal

import pytest

from sightline.training.interruption import watch_for_interruption


@pytest.mark.parametrize("first", [signal.SIGINT, signal.SIGTERM])
def test_asked_once_a_run_may_write_its_checkpoint_first(first: signal.Signals) -> None:
    before = signal.getsignal(first)
    with watch_for_interruption() as asked:
        assert not asked()
        signal.raise_signal(first)
        assert asked()
    assert signal.getsignal(first) is before


@pytest.mark.parametrize("first", [signal.SIGINT, signal.SIGTERM])
def test_a_sigterm_after_that_changes_nothing(first: signal.Signals) -> None:
    try:
        with watch_for_interruption() as asked:
            signal.raise_signal(first)
            signal.raise_signal(signal.SIGTERM)
            assert asked()
    except KeyboardInterrupt:
        pytest.fail("the run was ended at once")


@pytest.mark.parametrize("first", [signal.SIGINT, signal.SIGTERM])
def test_a_ctrl_c_after_that_ends_the_run_at_once(first: signal.Signals) -> None:
    with pytest.raises(KeyboardInterrupt), watch_for_interruption():
        signal.raise_signal(first)
        signal.raise_signal(signal.SIGINT)
