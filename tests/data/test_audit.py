import io
import json
import shutil
from pathlib import Path

from pictures import encoded, memory_table, picture, write
from PIL import Image

from sightline.data.audit import LISTED, DataAudit, audit, fingerprint
from sightline.data.inspection import inspect
from sightline.data.scan import scan
from sightline.data.table import Split


def audited(files: dict[str, bytes], splits: dict[str, Split] | None = None) -> DataAudit:
    """The audit of files by path; the first folder is the class."""
    rows = [(path, path.split("/")[0], content) for path, content in sorted(files.items())]
    table = memory_table(rows, None if splits is None else [splits[path] for path, _, _ in rows])
    return audit(table, inspect(table))


def clean(count: int = 4) -> dict[str, bytes]:
    return {
        f"{label}/{n}.png": encoded(picture(10 * n + place)) for place, label in enumerate("ab") for n in range(count)
    }


def test_clean_data_have_no_problems() -> None:
    findings = audited(clean())
    assert findings.problems() == ()
    assert findings.counts == {"a": 4, "b": 4}
    assert (findings.imbalance, findings.sides) == (1, (40, 40, 40))
    assert (findings.modes, findings.formats) == ({"RGB": 8}, {"PNG": 8})


def test_the_imbalance_is_the_largest_class_for_one_of_the_smallest() -> None:
    assert audited(clean() | {f"a/more{n}.png": encoded(picture(90 + n)) for n in range(2)}).imbalance == 1.5


def test_unreadable_files_are_listed_with_split_and_reason() -> None:
    files = clean() | {"a/bad.jpg": encoded(picture(99), "JPEG")[:200], "b/empty.png": b""}
    splits: dict[str, Split] = {path: "test" if path == "a/bad.jpg" else "train" for path in files}
    findings = audited(files, splits)
    assert [(image.path, image.split) for image in findings.unreadable] == [
        ("a/bad.jpg", "test"),
        ("b/empty.png", "train"),
    ]
    assert findings.unreadable[1].reason == "the file is empty"
    assert "2 images can't be read." in findings.problems()


def test_a_class_that_a_held_out_split_lacks_is_a_problem() -> None:
    splits: dict[str, Split] = dict.fromkeys(clean(), "train")
    splits |= {"a/0.png": "val", "a/1.png": "test", "b/0.png": "test"}
    findings = audited(clean(), splits)
    assert findings.uncovered == {"val": ["b"]}
    assert findings.problems() == ("val has no image of 1 class: 'b'.",)


def test_copies_are_grouped_and_copies_with_several_labels_are_a_conflict() -> None:
    files = clean()
    files |= {"a/copy.png": files["a/0.png"], "b/stray.png": files["a/1.png"]}
    findings = audited(files)
    assert [group.paths for group in findings.duplicates] == [("a/0.png", "a/copy.png"), ("a/1.png", "b/stray.png")]
    assert [group.labels for group in findings.conflicts] == [("a", "b")]
    assert findings.near_duplicates == ()
    assert findings.problems() == ("1 image found under several labels, byte for byte.",)


def test_saved_again_is_nearly_the_same() -> None:
    files = clean() | {"a/again.jpg": encoded(picture(0), "JPEG")}
    findings = audited(files)
    assert findings.duplicates == ()
    assert [set(group.paths) for group in findings.near_duplicates] == [{"a/0.png", "a/again.jpg"}]
    assert findings.problems() == ()


def test_the_same_and_nearly_the_same_in_several_splits_leak() -> None:
    files = clean()
    files |= {"a/copy.png": files["a/0.png"], "b/again.jpg": encoded(picture(1), "JPEG")}
    splits: dict[str, Split] = {path: "test" if path in ("a/copy.png", "b/again.jpg") else "train" for path in files}
    findings = audited(files, splits)
    assert [(group.paths, group.splits) for group in findings.leaks] == [
        (("a/0.png", "a/copy.png"), ("train", "test")),
        (("b/0.png", "b/again.jpg"), ("train", "test")),
    ]
    assert any(
        "2 groups of the same or nearly the same images in more than one split" in s for s in findings.problems()
    )
    assert findings.split_counts["test"] == {"a": 1, "b": 1}


def test_splits_that_were_made_since_count_instead_of_the_users() -> None:
    files = clean()
    files["a/copy.png"] = files["a/0.png"]
    table = memory_table([(path, path[0], content) for path, content in sorted(files.items())])
    facts = inspect(table)
    assert audit(table, facts).leaks == ()
    assigned: list[Split | None] = ["test" if path == "a/copy.png" else "train" for path in table.paths]
    assert len(audit(table, facts, assigned).leaks) == 1


def test_flat_images_are_not_taken_for_one_another() -> None:
    files = clean() | {f"a/{name}.png": encoded(Image.new("RGB", (50, 50), name)) for name in ("red", "blue", "white")}
    findings = audited(files)
    assert findings.near_duplicates == ()
    assert findings.not_compared == 3


def test_odd_images_are_told() -> None:
    moving = io.BytesIO()
    picture(50).save(moving, "GIF", save_all=True, append_images=[picture(51)])
    exif = Image.Exif()
    exif[0x0112] = 3
    turned = io.BytesIO()
    picture(52).save(turned, "JPEG", exif=exif)
    files = clean() | {
        "a/tiny.png": encoded(picture(53, (31, 60))),
        "a/strip.png": encoded(picture(54, (40, 121))),
        "a/moving.gif": moving.getvalue(),
        "a/turned.jpg": turned.getvalue(),
        "b/ink.jpg": encoded(picture(55).convert("CMYK"), "JPEG"),
        "b/deep.png": encoded(Image.new("I;16", (40, 40), 7)),
    }
    findings = audited(files)
    assert findings.small == ("a/tiny.png",)
    assert findings.elongated == ("a/strip.png",)
    assert findings.animated == ("a/moving.gif",)
    assert findings.rotated == 1
    assert {"CMYK", "I;16"} <= set(findings.modes)


def test_data_that_cannot_be_trained_on_are_audited_and_say_why() -> None:
    findings = audited({"a/1.png": encoded(picture(1))})
    assert any("only one class" in sentence for sentence in findings.problems())
    assert audited({"a/1.png": b"", "b/1.png": b""}).sides == (0, 0, 0)


def test_the_json_is_plain_and_bounded_and_tells_the_totals() -> None:
    files = clean() | {f"a/x{n:04}.png": b"" for n in range(LISTED + 50)}
    value = audited(files).to_json()
    assert json.loads(json.dumps(value, allow_nan=False)) == value
    assert len(value["unreadable"]) == LISTED
    assert value["totals"]["unreadable"] == LISTED + 50
    assert value["unreadable"][0] == {"path": "a/x0000.png", "split": None, "reason": "the file is empty"}


def test_the_fingerprint_knows_the_images_and_not_the_place(tmp_path: Path) -> None:
    def of(folder: Path) -> str:
        table = scan(folder)
        return fingerprint(table, inspect(table))

    write(tmp_path / "one", ["train/cat/1.png", "train/dog/2.png", "test/dog/3.png"])
    shutil.copytree(tmp_path / "one", tmp_path / "two")
    shutil.make_archive(str(tmp_path / "three"), "zip", tmp_path / "one")
    first = of(tmp_path / "one")
    assert of(tmp_path / "two") == of(tmp_path / "three.zip") == first
    seen = {first}
    for old, new in (("train/cat/1.png", "train/cat/9.png"), ("test/dog/3.png", "train/dog/3.png")):
        target = tmp_path / "two" / new
        (tmp_path / "two" / old).rename(target)
        seen.add(of(tmp_path / "two"))
    (tmp_path / "two" / "train/dog/3.png").write_bytes(encoded(picture(77)))
    seen.add(of(tmp_path / "two"))
    assert len(seen) == 4
