"""The journal of one writer: what it keeps, what it gives up, and who may take it over."""

import os
import pathlib

from actors.ledger.journal.journal import Journal
from actors.ledger.journal.orphans import orphans

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


def test_a_torn_last_line_is_read_for_its_reader_to_count(tmp_path: pathlib.Path) -> None:
    journal = filled(tmp_path, 3)
    os.pwrite(journal._segments[-1].fd, b'{"state":"op', journal._segments[-1].size)
    die(journal)
    assert left_by_the_dead(tmp_path) == lines(0, 3) + b'{"state":"op\n'


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


def refusing(journal: Journal) -> None:
    """Writes to the last file fail from now on, reads do not."""
    segment = journal._segments[-1]
    os.close(segment.fd)
    segment.fd = os.open(segment.path or "", os.O_RDONLY)


def test_a_new_file_whose_first_write_fails_takes_no_other_files_name(tmp_path: pathlib.Path) -> None:
    journal = Journal(tmp_path, "one", segment=200)
    refusing(journal)
    for n in range(5):
        journal.append(LINE % n)
    journal.mend()
    for n in range(5, 30):
        journal.append(LINE % n)
        if n == 15:
            data, position = journal.read(200)
            journal.acknowledge(position, data.count(b"\n"))
    assert not journal.broken
    assert data + drained_copy(tmp_path, journal) == lines(0, 30)


def drained_copy(folder: pathlib.Path, journal: Journal) -> bytes:
    """What another process would find if this one were killed now, without what it has acknowledged."""
    unread = journal.lines
    die(journal)
    found = left_by_the_dead(folder).splitlines(keepends=True)
    return b"".join(found[-unread:])


def test_lines_in_memory_before_a_file_that_works_are_told_and_put_into_a_file(tmp_path: pathlib.Path) -> None:
    journal = filled(tmp_path, 3, segment=200)
    refusing(journal)
    for n in range(3, 20):  # the disk takes lines again when the next file is begun
        journal.append(LINE % n)
    assert journal._segments[-1].path is not None
    assert journal.broken
    journal.mend()
    assert not journal.broken
    die(journal)
    assert left_by_the_dead(tmp_path) == lines(0, 20)


def test_files_that_have_vanished_are_written_once_more(tmp_path: pathlib.Path) -> None:
    journal = filled(tmp_path, 30, segment=200)
    for path in tmp_path.iterdir():
        path.unlink()
    tmp_path.rmdir()
    journal.append(LINE % 30)
    journal.mend()
    die(journal)
    assert left_by_the_dead(tmp_path) == lines(0, 31)


def test_a_file_that_somebody_has_cut_costs_its_own_lines_and_no_others(tmp_path: pathlib.Path) -> None:
    journal = filled(tmp_path, 20, segment=200)
    first = journal._segments[0]
    os.ftruncate(first.fd, len(LINE % 0) * 2)
    left = first.lines
    for n in range(20, 25):
        journal.append(LINE % n)
    assert drained(journal) == lines(0, 2) + lines(left, 25)
    assert (journal.dropped, journal.lines, journal.acked) == (left - 2, 0, journal.end)
    journal.close()
    assert list(tmp_path.iterdir()) == []


def test_the_last_file_can_be_cut_too(tmp_path: pathlib.Path) -> None:
    journal = filled(tmp_path, 5)
    os.ftruncate(journal._segments[-1].fd, 0)
    assert drained(journal) == b""
    assert (journal.dropped, journal.lines) == (5, 0)
    journal.append(LINE % 5)
    journal.mend()
    assert drained(journal) == LINE % 5
    journal.close()


def test_a_journal_whose_lock_was_deleted_is_still_found(tmp_path: pathlib.Path) -> None:
    journal = filled(tmp_path, 3)
    (tmp_path / "one.lock").unlink()
    assert list(orphans(tmp_path)) == [], "its writer may be living"
    die(journal)
    for path in tmp_path.glob("*.jsonl"):
        os.utime(path, (0, 0))
    assert left_by_the_dead(tmp_path) == lines(0, 3)


def test_a_living_writer_takes_its_lock_again(tmp_path: pathlib.Path) -> None:
    journal = filled(tmp_path, 3)
    (tmp_path / "one.lock").unlink()
    journal.mend()
    for path in tmp_path.glob("*.jsonl"):
        os.utime(path, (0, 0))
    assert list(orphans(tmp_path)) == []
    journal.close()


def test_a_disk_that_holds_its_writer_up_is_left_alone_for_a_while(tmp_path: pathlib.Path) -> None:
    now, step = 0.0, 0.0

    def clock() -> float:
        nonlocal now
        now += step
        return now

    journal = Journal(tmp_path, "one", clock=clock)
    journal.append(LINE % 0)
    step = 3.0  # between any two looks at the clock
    journal.append(LINE % 1)
    step = 0.0
    for n in range(2, 5):
        journal.append(LINE % n)
    assert journal.broken
    journal.mend()
    assert journal.broken, "not so soon"
    now += 60
    journal.mend()
    assert not journal.broken
    assert drained(journal) == lines(0, 5)
    journal.close()


def test_a_line_without_end_in_a_dead_writers_journal_stops_nobody(tmp_path: pathlib.Path) -> None:
    journal = filled(tmp_path, 3)
    journal.append(b"x" * 1000 + b"\n")
    journal.append(LINE % 3)
    die(journal)
    found = left_by_the_dead(tmp_path).splitlines(keepends=True)
    assert b"".join(text for text in found if text.startswith(b"{")) == lines(0, 4)


def test_a_line_that_is_longer_than_a_read_hides_no_other(tmp_path: pathlib.Path) -> None:
    journal = filled(tmp_path, 3)
    journal.append(b"x" * 1000 + b"\n")
    for n in range(3, 60):
        journal.append(LINE % n)
    found = drained(journal).splitlines(keepends=True)
    assert b"".join(text for text in found if text.startswith(b"{")) == lines(0, 60)
    assert journal.lines == 0
    journal.close()
