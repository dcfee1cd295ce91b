import io
import os
import pickle
import tarfile
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from pictures import encoded, picture, write, write_zip

from sightline.data import tar
from sightline.data.scan import scan
from sightline.data.tar import KEPT
from sightline.errors import DataError, UnreadableImageError

NAMES = ["train/cat/1.png", "train/dog/2.png", "test/cat/3.png", "test/dog/4.png"]


def write_tar(file: Path, names: list[str], mode: str = "w") -> Path:
    with tarfile.open(file, mode) as archive:
        for number, name in enumerate(names):
            content = encoded(picture(number, (8, 8)))
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    return file


def write_any(file: Path, names: list[str]) -> Path:
    if file.suffix == ".zip":
        return write_zip(file, names)
    packing = {".tar": "w", ".gz": "w:gz", ".tgz": "w:gz", ".bz2": "w:bz2", ".xz": "w:xz"}[file.suffix]
    return write_tar(file, names, packing)


@pytest.fixture(params=["a.zip", "a.tar", "a.tar.gz", "a.tgz", "a.tar.bz2", "a.tar.xz"])
def file(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    return tmp_path / request.param


def test_an_archive_gives_the_table_and_the_bytes_of_the_folder(file: Path, tmp_path: Path) -> None:
    folder = scan(write(tmp_path / "photos", NAMES))
    table = scan(write_any(file, NAMES))
    assert (table.paths, table.labels, table.splits) == (folder.paths, folder.labels, folder.splits)
    assert [table.source.read(path) for path in table.paths] == [folder.source.read(path) for path in folder.paths]
    assert table.source.location == str(file)


def test_one_folder_around_everything_is_looked_through(file: Path) -> None:
    table = scan(write_any(file, [f"photos-v2/{name}" for name in NAMES]))
    assert table.classes == ("cat", "dog")
    assert set(table.splits) == {"train", "test"}


def test_a_lone_train_folder_is_not_looked_through(file: Path) -> None:
    table = scan(write_any(file, ["train/cat/1.png", "train/dog/2.png"]))
    assert table.splits == ("train", "train")


def test_a_lone_class_folder_stays_a_class(file: Path) -> None:
    assert scan(write_any(file, ["cat/1.png", "cat/2.png"])).classes == ("cat",)


@pytest.mark.parametrize("name", ["../evil.png", "a/../../evil.png", "/etc/evil.png", "C:/evil.png", "..\\evil.png"])
def test_names_that_lead_out_are_refused_by_name(file: Path, name: str) -> None:
    with pytest.raises(DataError, match="names that lead out of it") as error:
        scan(write_any(file, [*NAMES, name]))
    assert repr(name) in str(error.value)


@pytest.mark.filterwarnings("ignore:Duplicate name:UserWarning")  # the standard library's, while the test writes it
def test_a_name_that_occurs_twice_is_refused(file: Path) -> None:
    with pytest.raises(DataError, match=r"several files of one name: 'train/cat/1\.png'"):
        scan(write_any(file, [*NAMES, "./train/cat/1.png"]))


def test_junk_is_refused_as_an_archive(file: Path) -> None:
    file.write_bytes(b"no archive at all, though named like one" * 20)
    with pytest.raises(DataError, match=r"no (zip|tar) archive|can't be read"):
        scan(file)


def test_a_cut_archive_is_refused(file: Path) -> None:
    content = write_any(file, NAMES).read_bytes().rstrip(b"\0")
    for share in (0.3, 0.6, 0.99):
        file.write_bytes(content[: int(len(content) * share)])
        with pytest.raises(DataError, match=r"damaged|can't be read"):
            scan(file)


def test_a_tar_cut_between_two_files_is_refused(tmp_path: Path) -> None:
    file = write_tar(tmp_path / "a.tar", NAMES)
    with tarfile.open(file) as archive:
        last = archive.getmembers()[-1].offset
    file.write_bytes(file.read_bytes()[:last])
    with pytest.raises(DataError, match="it is cut off"):
        scan(file)


def test_sources_survive_pickling_and_many_threads(file: Path) -> None:
    table = scan(write_any(file, [f"cat/{number}.png" for number in range(60)]))
    source = pickle.loads(pickle.dumps(table.source))
    wanted = [table.source.read(path) for path in table.paths]
    with ThreadPoolExecutor(8) as pool:
        for _ in range(5):
            assert list(pool.map(source.read, table.paths)) == wanted


def test_a_forked_process_reads_what_its_parent_reads(file: Path) -> None:
    table = scan(write_any(file, NAMES))
    wanted = table.source.read(table.paths[0])
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.write(writer, table.source.read(table.paths[0]))
        os._exit(0)
    os.waitpid(child, 0)
    assert os.read(reader, 2 * len(wanted)) == wanted


def test_a_file_that_is_not_there_is_unreadable(file: Path) -> None:
    with pytest.raises(UnreadableImageError, match="does not exist"):
        scan(write_any(file, NAMES)).source.read("train/cat/9.png")


def test_stamps_change_with_the_archive(file: Path) -> None:
    first = scan(write_any(file, NAMES))
    before = first.source.stamps(first.paths)
    assert before == scan(file).source.stamps(first.paths)
    file.unlink()
    second = scan(write_any(file, [*NAMES, "test/dog/5.png"]))
    assert set(before).isdisjoint(second.source.stamps(first.paths))


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_every_zip_compression_is_read(tmp_path: Path, method: int) -> None:
    table = scan(write_zip(tmp_path / "a.zip", NAMES, method=method))
    with zipfile.ZipFile(tmp_path / "a.zip") as archive:
        assert [table.source.read(path) for path in table.paths] == [archive.read(path) for path in table.paths]


def test_a_damaged_member_is_unreadable_and_the_others_are_not(tmp_path: Path) -> None:
    file = write_zip(tmp_path / "a.zip", NAMES, method=zipfile.ZIP_STORED)
    content = file.read_bytes()
    file.write_bytes(content.replace(encoded(picture(0, (8, 8))), bytes(len(encoded(picture(0, (8, 8)))))))
    source = scan(file).source
    with pytest.raises(UnreadableImageError, match="checksum differs"):
        source.read(NAMES[0])
    assert source.read(NAMES[1]) == encoded(picture(1, (8, 8)))


def test_a_member_that_claims_to_be_huge_is_not_unpacked(tmp_path: Path) -> None:
    file = tmp_path / "a.zip"
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("cat/1.png", b"small")
    claimed = (2**31).to_bytes(4, "little")
    content = file.read_bytes()
    directory = content.rindex(b"PK\x01\x02")
    file.write_bytes(content[: directory + 24] + claimed + content[directory + 28 :])
    with pytest.raises(UnreadableImageError, match="2,147,483,648 bytes, more than"):
        scan(file).source.read("cat/1.png")


def test_members_with_an_extra_field_are_read(tmp_path: Path) -> None:
    """Times, for one, which Linux's and macOS's `zip` write into each member's header."""
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        for number, name in enumerate(NAMES):
            entry = zipfile.ZipInfo(name)
            entry.extra = b"UT\x05\x00\x01" + bytes(4)
            archive.writestr(entry, encoded(picture(number, (8, 8))))
    assert scan(tmp_path / "a.zip").source.read(NAMES[1]) == encoded(picture(1, (8, 8)))


def test_an_encrypted_zip_is_refused(tmp_path: Path) -> None:
    file = write_zip(tmp_path / "a.zip", NAMES)
    content = bytearray(file.read_bytes())
    directory = content.index(b"PK\x01\x02")
    content[directory + 8] |= 1
    file.write_bytes(content)
    with pytest.raises(DataError, match=r"encrypted \('train/cat/1\.png'\)"):
        scan(file)


@pytest.mark.parametrize(("stored", "name"), [("café".encode(), "café"), ("cafés".encode("cp437"), "cafés")])
@pytest.mark.parametrize("method", [zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2])
def test_names_in_a_zip_that_doesn_t_say_how_they_are_written_are_utf8_where_they_can_be(
    tmp_path: Path, stored: bytes, name: str, method: int
) -> None:
    file = write_zip(tmp_path / "a.zip", ["cat/1.png", "cafXX/2.png"], method=method)
    with zipfile.ZipFile(file, "a") as archive:
        archive.writestr("dog/cafXX/", b"")
    file.write_bytes(file.read_bytes().replace(b"cafXX", stored))
    table = scan(file)
    assert table.classes == (name, "cat")
    assert table.paths == (f"{name}/2.png", "cat/1.png")
    assert table.ignored == (f"dog/{name}/",)
    assert table.source.read(f"{name}/2.png") == encoded(picture(1, (8, 8)))


def test_a_member_without_a_name_is_refused(tmp_path: Path) -> None:
    file = write_zip(tmp_path / "a.zip", ["a/1.png"])
    content = bytearray(file.read_bytes())
    directory = content.rindex(b"PK\x01\x02")
    content[directory + 28] = 0  # the name's length; what was the name counts as the comment
    content[directory + 32] = len("a/1.png")
    file.write_bytes(content)
    with pytest.raises(DataError, match="names that lead out of it: ''"):
        scan(file)


def test_empty_folders_of_an_archive_are_told(tmp_path: Path) -> None:
    file = write_zip(tmp_path / "a.zip", NAMES)
    with zipfile.ZipFile(file, "a") as archive:
        archive.writestr("train/", b"")
        archive.writestr("train/horse/", b"")
    assert scan(file).ignored == ("train/horse/",)


def test_links_inside_a_tar_are_followed(tmp_path: Path) -> None:
    file = write_tar(tmp_path / "a.tar", ["cat/1.png"])
    with tarfile.open(file, "a") as archive:
        for name, kind, target in (
            ("dog/hard.png", tarfile.LNKTYPE, "cat/1.png"),
            ("dog/soft.png", tarfile.SYMTYPE, "../cat/1.png"),
            ("dog/out.png", tarfile.SYMTYPE, "../../etc/passwd"),
        ):
            entry = tarfile.TarInfo(name)
            entry.type, entry.linkname = kind, target
            archive.addfile(entry)
    source = scan(file).source
    assert source.read("dog/hard.png") == source.read("dog/soft.png") == source.read("cat/1.png")
    with pytest.raises(UnreadableImageError, match="leads out of it"):
        source.read("dog/out.png")


def test_a_compressed_tar_is_decompressed_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SIGHTLINE_CACHE", str(tmp_path / "cache"))
    file = write_tar(tmp_path / "a.tar.gz", NAMES, "w:gz")
    scan(file)
    (plain,) = (tmp_path / "cache" / "archives").iterdir()
    before = plain.stat().st_mtime_ns
    scan(file)
    assert plain.stat().st_mtime_ns == before


def test_of_an_archive_that_changes_the_cache_keeps_few_copies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SIGHTLINE_CACHE", str(tmp_path / "cache"))
    write_tar(tmp_path / "b.tar.gz", NAMES, "w:gz")
    scan(tmp_path / "b.tar.gz")
    for _ in range(4):
        scan(write_tar(tmp_path / "a.tar.gz", NAMES, "w:gz"))
    assert len(list((tmp_path / "cache" / "archives").iterdir())) == 1 + KEPT


def test_a_compressed_tar_that_can_t_be_opened_is_what_the_sentence_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SIGHTLINE_CACHE", str(tmp_path / "cache"))
    file = write_tar(tmp_path / "a.tar.gz", NAMES, "w:gz")

    def refuse(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setitem(tar._OPENERS, ".gz", refuse)
    with pytest.raises(DataError, match=r"a\.tar\.gz' can't be read: [Pp]ermission denied"):
        scan(file)
