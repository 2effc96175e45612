"""The journal of one writer: what it keeps, what it gives up, and who may take it over."""

import os
import pathlib

from actors.ledger.journal import Journal, orphans

LINE = b'{"state":"settled","n":%03d}\n'


def lines(first: int, last: int) -> bytes:
    return b"".join(LINE % n for n in range(first, last))


def filled(folder: pathlib.Path, count: int, **bounds: int) -> Journal:
    journal = Journal(folder, "one", **bounds)
    for n in range(count):
        journal.append(LINE % n)
    return journal


def drained(journal: Journal, most: int = 100) -> bytes:
    got = b""
    while (read := journal.read(most))[0]:
        data, position = read
        got += data
        journal.acknowledge(position, data.count(b"\n"))
    return got


def left_by_the_dead(folder: pathlib.Path) -> bytes:
    got = b""
    for orphan in orphans(folder):
        got += b"".join(orphan.chunks(100))
        orphan.release()
    return got


def die(journal: Journal) -> None:
    """What the kernel does for a killed process: its descriptors are closed, and nothing else happens."""
    os.close(journal._lock)
    for segment in journal._segments:
        if segment.path is not None:
            os.close(segment.fd)


def test_lines_come_back_whole_and_in_order_across_files(tmp_path: pathlib.Path) -> None:
    journal = filled(tmp_path, 50, segment=200)
    assert len(list(tmp_path.glob("*.jsonl"))) > 5
    assert journal.lines == 50
    assert drained(journal) == lines(0, 50)
    assert (journal.lines, journal.read(100)[0]) == (0, b"")
    journal.close()


def test_files_go_when_they_are_acknowledged_and_all_when_the_writer_leaves(tmp_path: pathlib.Path) -> None:
    journal = filled(tmp_path, 50, segment=200)
    drained(journal)
    assert len(list(tmp_path.glob("*.jsonl"))) == 1
    journal.close()
    assert list(tmp_path.iterdir()) == []


def test_what_is_not_acknowledged_is_read_again(tmp_path: pathlib.Path) -> None:
    journal = filled(tmp_path, 10)
    assert journal.read(100) == journal.read(100)
    data, position = journal.read(100)
    journal.acknowledge(position, data.count(b"\n"))
    journal.acknowledge(position, data.count(b"\n"))
    assert journal.lines == 10 - data.count(b"\n")
    assert data + drained(journal) == lines(0, 10)
    journal.close()


def test_nobody_takes_the_journal_of_the_living(tmp_path: pathlib.Path) -> None:
    journal = filled(tmp_path, 3)
    assert list(orphans(tmp_path)) == []
    journal.close()


def test_the_journal_of_the_dead_is_taken_by_one_at_a_time(tmp_path: pathlib.Path) -> None:
    die(filled(tmp_path, 30, segment=200))
    (mine,) = orphans(tmp_path)
    assert mine.owner == "one"
    assert list(orphans(tmp_path)) == []
    assert b"".join(mine.chunks(100)) == lines(0, 30)
    mine.release()
    assert left_by_the_dead(tmp_path) == lines(0, 30), "an adopter that dies loses nothing"
    (again,) = orphans(tmp_path)
    again.discard()
    assert list(tmp_path.iterdir()) == []


def test_a_torn_last_line_is_left_out(tmp_path: pathlib.Path) -> None:
    journal = filled(tmp_path, 3)
    os.write(journal._segments[-1].fd, b'{"state":"op')
    die(journal)
    assert left_by_the_dead(tmp_path) == lines(0, 3)


def test_a_full_journal_drops_the_oldest_and_counts_them(tmp_path: pathlib.Path) -> None:
    journal = filled(tmp_path, 200, segment=200, most=1000)
    assert journal.dropped > 0
    kept = drained(journal)
    assert kept == lines(journal.dropped, 200)
    assert len(kept) <= 1000
    assert journal.lines == 0
    journal.close()


def test_while_the_disk_refuses_lines_stay_in_memory_and_go_to_disk_afterwards(tmp_path: pathlib.Path) -> None:
    folder = tmp_path / "journal"
    folder.write_text("a file where the folder should be")
    journal = filled(folder, 20, segment=200)
    assert journal.broken
    assert journal.read(100)[0] == lines(0, 3)
    folder.unlink()
    journal.mend()
    assert not journal.broken
    for n in range(20, 30):
        journal.append(LINE % n)
    die(journal)
    assert left_by_the_dead(folder) == lines(0, 30)


def test_a_disk_that_fails_in_the_middle_costs_no_line(tmp_path: pathlib.Path) -> None:
    journal = filled(tmp_path, 5)
    os.close(journal._segments[-1].fd)
    journal._segments[-1].fd = os.open(journal._segments[-1].path or "", os.O_RDONLY)  # writes fail, reads do not
    for n in range(5, 10):
        journal.append(LINE % n)
    assert journal.broken
    journal.mend()
    assert not journal.broken
    for n in range(10, 15):
        journal.append(LINE % n)
    assert drained(journal) == lines(0, 15)
    journal.close()


def test_memory_is_bounded_too(tmp_path: pathlib.Path) -> None:
    folder = tmp_path / "journal"
    folder.write_text("")
    journal = Journal(folder, "one", segment=1024 * 1024)
    for _ in range(20):
        journal.append(b"x" * 1024 * 1023 + b'"state":"settled"\n')
    assert sum(s.size for s in journal._segments) <= 9 * 1024 * 1024
    assert journal.dropped >= 11
    journal.close()
