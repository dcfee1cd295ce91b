import os
import subprocess
import sys
import tempfile
import unicodedata
from collections.abc import Iterator
from pathlib import Path

import pytest
from pictures import write

from sightline.data.scan import scan, set_names
from sightline.errors import DataError, UnreadableImageError


def test_a_folder_of_class_folders_is_labelled_by_folder(tmp_path: Path) -> None:
    table = scan(write(tmp_path, ["dog/2.png", "cat/1.JPG", "cat/deep/er/3.jpeg"]))
    assert table.paths == ("cat/1.JPG", "cat/deep/er/3.jpeg", "dog/2.png")
    assert table.labels == ("cat", "cat", "dog")
    assert table.splits == (None, None, None)
    assert table.source.location == str(tmp_path)
    assert table.source.read("dog/2.png") == (tmp_path / "dog/2.png").read_bytes()


@pytest.mark.parametrize("name", ["val", "valid", "validation", "Valid"])
def test_split_folders_are_kept_under_any_of_their_names(tmp_path: Path, name: str) -> None:
    table = scan(write(tmp_path, ["Train/cat/1.png", f"{name}/cat/2.png", "test/dog/3.png"]))
    assert dict(zip(table.paths, table.splits, strict=True)) == {
        "Train/cat/1.png": "train",
        f"{name}/cat/2.png": "val",
        "test/dog/3.png": "test",
    }
    assert table.classes == ("cat", "dog")


def test_what_is_no_image_is_ignored_and_listed(tmp_path: Path) -> None:
    junk = ["cat/.hidden.png", "cat/Thumbs.db", "__MACOSX/cat/._1.png", ".git/x.png", "cat/notes.txt", "cat/photo.heic"]
    write(tmp_path, ["cat/1.png", *junk])
    (tmp_path / "empty").mkdir()
    os.mkfifo(tmp_path / "cat" / "pipe.png")
    table = scan(tmp_path)
    assert table.paths == ("cat/1.png",)
    assert set(table.ignored) == {
        *("cat/.hidden.png", "cat/Thumbs.db", "__MACOSX/", ".git/", "cat/notes.txt", "cat/photo.heic"),
        *("empty/", "cat/pipe.png"),
    }


def test_accents_composed_and_decomposed_are_one_class(tmp_path: Path) -> None:
    names = [unicodedata.normalize(form, "café") for form in ("NFC", "NFD")]
    table = scan(write(tmp_path, [f"train/{names[0]}/1.png", f"test/{names[1]}/2.png"]))
    assert table.classes == (names[0],)


def test_any_unicode_and_the_longest_names_are_classes(tmp_path: Path) -> None:
    long = "ü" * 127
    table = scan(write(tmp_path, [f"{long}/{'é' * 125}.png", '猫 🐈/it\'s "one"\n.png']))
    assert set(table.classes) == {long, "猫 🐈"}
    for path in table.paths:
        assert table.source.read(path)


def test_symbolic_links_are_followed(tmp_path: Path) -> None:
    write(tmp_path / "elsewhere", ["1.png"])
    write(tmp_path / "photos", ["dog/2.png"])
    (tmp_path / "photos" / "cat").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "photos" / "dog" / "3.png").symlink_to(tmp_path / "elsewhere" / "1.png")
    table = scan(tmp_path / "photos")
    assert table.paths == ("cat/1.png", "dog/2.png", "dog/3.png")
    assert table.source.read("dog/3.png")


def test_a_link_to_nothing_is_an_image_that_cannot_be_read(tmp_path: Path) -> None:
    write(tmp_path, ["cat/1.png"])
    (tmp_path / "cat" / "2.png").symlink_to(tmp_path / "gone.png")
    table = scan(tmp_path)
    with pytest.raises(UnreadableImageError, match="does not exist"):
        table.source.read(table.paths[1])


def test_a_link_back_up_is_refused_by_name(tmp_path: Path) -> None:
    write(tmp_path, ["cat/1.png"])
    (tmp_path / "cat" / "again").symlink_to(tmp_path)
    (tmp_path / "cat" / "self.png").symlink_to("self.png")
    with pytest.raises(DataError, match="cat/again' leads back to a folder above it") as error:
        scan(tmp_path)
    assert "self.png' can't be followed (a link that leads back to itself)" in str(error.value)


def test_a_name_that_is_not_utf8_is_refused_by_its_bytes(tmp_path: Path) -> None:
    write(tmp_path, ["cat/1.png"])
    (tmp_path / "cat" / os.fsdecode(b"caf\xe9.png")).write_bytes(b"")
    with pytest.raises(DataError, match=r"caf\\udce9.png' is not valid UTF-8"):
        scan(tmp_path)
    with pytest.raises(DataError, match="not valid UTF-8"):
        scan(tmp_path / os.fsdecode(b"\xff"))


def test_no_folder_and_no_name_says_what_there_could_be(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"'cifar-10' does not exist\. Did you mean 'cifar10'\?"):
        scan("cifar-10")
    with pytest.raises(DataError, match=r"does not exist\. Expected is a folder of class folders"):
        scan(tmp_path / "nowhere")
    with pytest.raises(DataError, match="can't be read"):
        scan("x" * 5000)


def test_an_existing_folder_wins_over_a_set_of_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path, ["digits/cat/1.png", "digits/dog/2.png"])
    monkeypatch.chdir(tmp_path)
    assert scan("digits").classes == ("cat", "dog")
    assert scan("digits").source.location == str(tmp_path / "digits")


def test_a_single_image_or_another_file_is_refused(tmp_path: Path) -> None:
    write(tmp_path, ["1.png", "notes.docx"])
    with pytest.raises(DataError, match="a single image; expected is a folder of class folders"):
        scan(tmp_path / "1.png")
    with pytest.raises(DataError, match="a file of another kind"):
        scan(tmp_path / "notes.docx")


def test_an_empty_folder_says_how_to_lay_images_out(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no images in .*photos/cat/1\.jpg"):
        scan(tmp_path)
    write(tmp_path, ["cat/1.heic"])
    with pytest.raises(DataError, match=r"1 other entry: 'cat/1\.heic'"):
        scan(tmp_path)


def test_images_without_class_folders_say_how_to_lay_them_out(tmp_path: Path) -> None:
    write(tmp_path, ["1.png", "2.png"])
    with pytest.raises(DataError, match=r"2 images but no class folders \('1\.png', '2\.png'\)\. Put each class's"):
        scan(tmp_path)
    write(tmp_path, ["cat/3.png"])
    with pytest.raises(DataError, match=r"2 images of .* lie in no class folder: '1\.png', '2\.png'"):
        scan(tmp_path)


def test_an_unlabelled_test_folder_is_named(tmp_path: Path) -> None:
    write(tmp_path, ["train/cat/1.png", "train/dog/2.png", "test/3.png"])
    with pytest.raises(DataError, match=r"1 image of .* lies in no class folder: 'test/3\.png'"):
        scan(tmp_path)


def test_class_folders_beside_split_folders_are_named(tmp_path: Path) -> None:
    write(tmp_path, ["train/cat/1.png", "dog/2.png", "3.png"])
    with pytest.raises(DataError, match=r"has '3\.png', 'dog' beside 'train'.*path,label"):
        scan(tmp_path)


def test_two_folders_for_one_split_are_named(tmp_path: Path) -> None:
    write(tmp_path, ["train/cat/1.png", "val/cat/2.png", "valid/cat/3.png"])
    with pytest.raises(DataError, match="'val', 'valid', which both mean 'val'"):
        scan(tmp_path)


@pytest.fixture
def unprivileged() -> Iterator[Path]:
    """A folder of one who is not the superuser, to whom nothing would be forbidden."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write(folder, ["cat/1.png", "cat/2.png", "dog/3.png"])
        user = os.geteuid()
        if user == 0:
            for path in [folder, *folder.rglob("*")]:
                os.chown(path, 65534, 65534)
            os.seteuid(65534)
        try:
            yield folder
        finally:
            for path in folder.rglob("*"):
                path.chmod(0o700)
            if user == 0:
                os.seteuid(0)


def test_forbidden_folders_are_all_named(unprivileged: Path) -> None:
    for name in ("cat", "dog"):
        (unprivileged / name).chmod(0)
    with pytest.raises(DataError, match="can't be read") as error:
        scan(unprivileged)
    for name in ("cat", "dog"):
        assert f"{str(unprivileged / name)!r} can't be read (permission denied)" in str(error.value)


def test_a_forbidden_file_is_an_image_that_cannot_be_read(unprivileged: Path) -> None:
    (unprivileged / "cat" / "1.png").chmod(0)
    table = scan(unprivileged)
    with pytest.raises(UnreadableImageError, match="permission denied"):
        table.source.read("cat/1.png")


def test_the_sets_are_those_that_are_promised() -> None:
    assert set_names() == (
        *("digits", "cifar10", "cifar100", "mnist", "fashion-mnist"),
        *("flowers102", "oxford-pets", "imagenette", "eurosat"),
    )


def test_looking_at_data_takes_no_torch() -> None:
    modules = ", ".join(f"sightline.data.{name}" for name in ("scan", "inspection", "audit", "split", "prepare"))
    code = f"import sys, {modules}; sys.exit('torch' in sys.modules or 'sklearn' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_digits_are_1797_images_of_ten_classes() -> None:
    table = scan("digits")
    assert len(table) == 1797
    assert table.classes == tuple("0123456789")
    assert table.source.location == "digits"
    assert table.paths == tuple(sorted(table.paths))
