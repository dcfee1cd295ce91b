"""What a command would ignore is refused by name."""

from collections.abc import Callable

import pytest


@pytest.mark.parametrize(
    ("command", "ignored"),
    [
        ("models --image-size 64 --optimizer nonsense", "--image-size"),
        ("models --num-classes 3", "--num-classes"),
        ("models --batch-size 32", "--batch-size"),
        ("models --json --optimizer sgd", "--optimizer"),
        ("models --sort name --precision bf16", "--precision"),
        ("models resnet20 --sort name", "--sort"),
        ("models resnet20 --filter resnet", "--filter"),
        ("recipes nonsense --explain", "NAME"),
        ("study --list --repeats 9", "--repeats"),
        ("study --list --vary x=1", "--vary"),
        ("study photos --list", "DATA"),
    ],
)
def test_it_is_refused_by_name(run_cli: Callable[..., tuple[int, str, str]], command: str, ignored: str) -> None:
    code, printed, said = run_cli(*command.split())
    assert (code, printed) == (2, "")
    assert said.startswith("error: ")
    assert said.endswith(f" and would ignore {ignored}. Leave it out.\n")


@pytest.mark.parametrize("command", ["recipes --explain", "study --list"])
def test_what_is_used_is_taken(run_cli: Callable[..., tuple[int, str, str]], command: str) -> None:
    code, printed, said = run_cli(*command.split())
    assert (code, said) == (0, "")
    assert printed
