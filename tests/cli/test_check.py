import json
from collections.abc import Callable
from pathlib import Path

from sightline.data.named import SETS

RunCli = Callable[..., tuple[int, str, str]]


def test_clean_photos_pass_with_a_table(photos: Path, run_cli: RunCli) -> None:
    code, out, _ = run_cli("check", photos)
    assert code == 0
    assert "36 images, fingerprint" in out
    assert "3 classes" in out
    assert out.rstrip().endswith("No problems found.")


def test_problems_are_named_and_the_exit_code_is_1(photos: Path, run_cli: RunCli) -> None:
    (photos / "red" / "000.jpg").write_bytes(b"")
    (photos / "green" / "stray.jpg").write_bytes((photos / "red" / "001.jpg").read_bytes())
    code, out, _ = run_cli("check", photos)
    assert code == 1
    assert "red/000.jpg: the file is empty" in out
    assert "green/stray.jpg = red/001.jpg  [green, red]" in out
    assert "problem: 1 image can't be read." in out
    assert "problem: 1 image found under several labels, byte for byte." in out


def test_the_json_has_everything(photos: Path, tmp_path: Path, run_cli: RunCli) -> None:
    (photos / "red" / "000.jpg").write_bytes(b"")
    code, out, _ = run_cli("check", photos, "--json", tmp_path / "audit.json")
    value = json.loads((tmp_path / "audit.json").read_text())
    assert code == 1
    assert str(tmp_path / "audit.json") in out
    assert value["unreadable"] == [{"path": "red/000.jpg", "split": None, "reason": "the file is empty"}]
    assert value["counts"] == {"blue": 12, "green": 12, "red": 12}


def test_data_that_is_not_there_is_one_line_and_exit_code_2(tmp_path: Path, run_cli: RunCli) -> None:
    code, out, err = run_cli("check", tmp_path / "nowhere")
    assert code == 2
    assert out == ""
    assert err.startswith("error: ")
    assert err.count("\n") == 1
    assert all(name in err for name in ("digits", *SETS))


def test_names_that_look_like_markup_or_steer_a_terminal_are_printed_as_text(photos: Path, run_cli: RunCli) -> None:
    (photos / "red").rename(photos / "[bold]red :smile:")
    (photos / "blue" / "\x1b[2Jnew\nline.txt").write_text("")
    code, out, _ = run_cli("check", photos)
    assert code == 0
    assert "[bold]red :smile:" in out
    assert r"blue/\x1b[2Jnew\nline.txt" in out


def test_long_lists_and_many_classes_are_cut(tmp_path: Path, run_cli: RunCli) -> None:
    from making import make_photos

    folder = make_photos(tmp_path / "many", classes=tuple(f"class {n:03}" for n in range(40)), count=3)
    for n in range(20):
        (folder / f"class {n:03}" / "bad.jpg").write_bytes(b"")
    code, out, _ = run_cli("check", folder)
    assert code == 1
    assert "... 10 more classes" in out
    assert "Unreadable (20)" in out
    assert "... 15 more" in out
