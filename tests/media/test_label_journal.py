from pathlib import Path

import pytest

from pipeline.media.label_journal import append_journal, read_journal


@pytest.mark.parametrize("damage", ["[2", "nothing\n", '{"a": 1}\n', "[" * 100_000 + "\n"])
def test_a_journal_ends_where_it_is_damaged(tmp_path: Path, damage: str) -> None:
    file = tmp_path / "frames.jsonl"
    append_journal(file, [(0, ""), (40, "b.png")])
    with file.open("a", encoding="utf-8") as stream:
        stream.write(damage)
    append_journal(file, [(80, "")])
    assert read_journal(file) == [(0, ""), (40, "b.png")]
