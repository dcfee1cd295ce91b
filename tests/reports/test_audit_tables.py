from sightline.data.audit import DataAudit, Unreadable
from sightline.reports.audit import audit_tables, has_leaks, problems


def audit() -> DataAudit:
    return DataAudit(
        location="/data",
        fingerprint="ab" * 32,
        num_images=9,
        counts={"bee": 5, "cat": 4},
        split_counts={"train": {"bee": 3, "cat": 4}, "test": {"bee": 1, "cat": 0}},
        unreadable=(Unreadable("bee/broken.jpg", "train", "the file is empty"),),
        duplicates=(),
        near_duplicates=(),
        not_compared=0,
        small=(),
        elongated=(),
        animated=(),
        rotated=0,
        modes={"RGB": 9},
        formats={"JPEG": 9},
        sides=(24, 480, 3024),
        ignored=(),
        obstacles=(),
    )


def test_an_audits_images_are_counted_by_class_and_split() -> None:
    table = next(table for table in audit_tables(audit().to_json()) if table.caption == "Images by class")
    assert table.columns == ("", "train", "test", "all")
    assert table.rows == (("bee", "3", "1", "5"), ("cat", "4", "0", "4"))


def test_files_that_can_not_be_read_are_listed_with_the_reason() -> None:
    table = next(table for table in audit_tables(audit().to_json()) if table.caption == "Unreadable")
    assert table.rows == (("bee/broken.jpg", "train", "the file is empty"),)


def test_empty_lists_are_no_tables() -> None:
    captions = {table.caption for table in audit_tables(audit().to_json())}
    assert "Duplicates" not in captions


def test_the_audits_own_sentences_are_its_problems() -> None:
    assert problems(audit().to_json()) == list(audit().problems())


def test_an_audit_without_groups_across_splits_has_no_leaks() -> None:
    assert not has_leaks(audit().to_json())


def test_an_older_audit_with_fewer_findings_is_read_too() -> None:
    assert audit_tables({"num_images": 3})[0].rows[0] == ("images", "3")
    assert problems({}) == []
