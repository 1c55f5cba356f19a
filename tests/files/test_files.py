"""Files are old or new and never half; folders are told apart; a history outlives its process."""

import csv
import dataclasses
import enum
import errno
import itertools
import json
import multiprocessing
import os
import random
import signal
import socket
import stat
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from support import needs

from coordfit.errors import ConfigError, OutputError
from coordfit.files import (
    HistoryWriter,
    Outputs,
    atomic,
    atomic_write,
    jsonable,
    new_run_folder,
    prepare_output_folder,
    printable,
    read_history,
    read_json,
    write_json,
)
from coordfit.files.lock import output_folder

posix = pytest.mark.skipif(sys.platform == "win32", reason="POSIX file systems only")
needs_dev_full = pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")


NONE = Outputs(())


def put(path, content=b"new"):
    with atomic_write(path) as file:
        file.write(content)


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def mode(path):
    return stat.S_IMODE(path.stat().st_mode)


def one_line_error(action, *words):
    """Run `action`; it must raise `OutputError` with one line that has all `words`."""
    with pytest.raises(OutputError) as caught:
        action()
    message = str(caught.value)
    assert "\n" not in message
    for word in words:
        assert str(word) in message
    return message


@pytest.fixture
def old(tmp_path):
    """An existing file with the content b"old" in a folder of its own."""
    path = tmp_path / "model.bin"
    path.write_bytes(b"old")
    return path


# --- atomic_write -------------------------------------------------------------------------------------------


def test_a_new_file_gets_its_content_and_leaves_nothing_else(tmp_path):
    put(tmp_path / "a", b"12")
    assert (tmp_path / "a").read_bytes() == b"12"
    assert names(tmp_path) == ["a"]


def test_the_old_file_is_there_until_the_block_ends(old):
    with atomic_write(old) as file:
        file.write(b"new")
        file.flush()
        assert old.read_bytes() == b"old"
    assert old.read_bytes() == b"new"


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit])
def test_an_error_in_the_block_keeps_the_old_file_and_passes_through(old, error):
    def fail():
        with atomic_write(old) as file:
            file.write(b"half")
            raise error

    with pytest.raises(error):
        fail()
    assert old.read_bytes() == b"old"
    assert names(old.parent) == ["model.bin"]


def test_an_error_about_another_file_is_not_reported_as_ours(old):
    with pytest.raises(FileNotFoundError), atomic_write(old):
        (old.parent / "elsewhere" / "x").read_bytes()
    with pytest.raises(OSError, match="cannot write mode F"), atomic_write(old):
        raise OSError("cannot write mode F as PNG")
    assert names(old.parent) == ["model.bin"]


class FailingFile:
    """A file of which one method fails as on a full disk."""

    def __init__(self, file, method):
        self._file = file
        self._method = method

    def __getattr__(self, name):
        if name == self._method:
            return self._fail
        return getattr(self._file, name)

    def _fail(self, *args):
        if self._method == "close":
            self._file.close()
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.mark.parametrize("method", ["write", "flush", "close"])
def test_a_full_disk_at_any_call_keeps_the_old_file(old, monkeypatch, method):
    real = atomic._open_temporary

    def opened(target, undo):
        temporary, file = real(target, undo)
        return temporary, FailingFile(file, method)

    monkeypatch.setattr(atomic, "_open_temporary", opened)
    one_line_error(lambda: put(old), old, "disk is full")
    assert old.read_bytes() == b"old"
    assert names(old.parent) == ["model.bin"]


@pytest.mark.parametrize("code", [errno.EIO, errno.ENOSPC])
def test_a_failing_fsync_keeps_the_old_file(old, monkeypatch, code):
    def fail(descriptor):
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, "fsync", fail)
    one_line_error(lambda: put(old), old)
    assert old.read_bytes() == b"old"
    assert names(old.parent) == ["model.bin"]


def test_a_file_system_without_fsync_is_no_error(old, monkeypatch):
    def fail(descriptor):
        raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))

    monkeypatch.setattr(os, "fsync", fail)
    put(old)
    assert old.read_bytes() == b"new"


def test_content_is_on_disk_before_the_rename_and_the_folder_after_it(old, monkeypatch):
    events = []
    real_sync, real_replace = os.fsync, Path.replace

    def sync(descriptor):
        events.append("folder" if stat.S_ISDIR(os.fstat(descriptor).st_mode) else "file")
        real_sync(descriptor)

    def replace(self, target):
        events.append("rename")
        return real_replace(self, target)

    monkeypatch.setattr(os, "fsync", sync)
    monkeypatch.setattr(Path, "replace", replace)
    put(old)
    assert events == ["file", "rename"] + ["folder"] * (sys.platform != "win32")


@needs_dev_full
def test_devices_are_written_straight():
    put("/dev/null")
    assert Path("/dev/null").is_char_device()
    one_line_error(lambda: put("/dev/full"), "/dev/full", "disk is full")


@posix
def test_a_pipe_is_written_straight(tmp_path):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    with ThreadPoolExecutor(1) as pool:
        content = pool.submit(pipe.read_bytes)
        put(pipe, b"through")
        assert content.result(timeout=5) == b"through"
    assert pipe.is_fifo()


@posix
def test_the_standard_output_is_shared_with_what_else_is_printed(tmp_path):
    code = (
        "from coordfit.files import atomic_write\n"
        "print('before', flush=True)\n"
        "with atomic_write('/dev/stdout') as file: file.write(b'document\\n')\n"
        "print('after', flush=True)\n"
    )
    with (tmp_path / "out").open("wb") as out:  # a regular file: opening it anew would overwrite it
        subprocess.run([sys.executable, "-c", code], stdout=out, check=True, timeout=30)
    assert (tmp_path / "out").read_bytes() == b"before\ndocument\nafter\n"


@posix
def test_a_symbolic_link_stays_a_link(tmp_path):
    (tmp_path / "store").mkdir()
    target = tmp_path / "store" / "real"
    link = tmp_path / "link"
    link.symlink_to(Path("store") / "real")
    for content in (b"first, the link dangles", b"then it does not"):
        put(link, content)
        assert link.is_symlink()
        assert target.read_bytes() == content
    assert names(tmp_path) == ["link", "store"]
    assert names(tmp_path / "store") == ["real"]


@posix
def test_a_link_that_leads_nowhere_is_an_error(tmp_path):
    (tmp_path / "loop").symlink_to("loop")
    one_line_error(lambda: put(tmp_path / "loop"), "loop")
    (tmp_path / "gone").symlink_to("missing/file")
    one_line_error(lambda: put(tmp_path / "gone"), tmp_path / "missing", "does not exist")


@posix
@pytest.mark.parametrize("umask", [0o022, 0o077, 0o027])
def test_the_umask_decides_on_a_new_file(tmp_path, umask):
    before = os.umask(umask)
    try:
        put(tmp_path / "a")
    finally:
        os.umask(before)
    assert mode(tmp_path / "a") == 0o666 & ~umask


@posix
@pytest.mark.parametrize("kept", [0o600, 0o664, 0o755])
def test_an_existing_file_keeps_its_permissions(old, kept):
    old.chmod(kept)
    put(old)
    assert mode(old) == kept


@posix
def test_a_protected_file_is_not_replaced(old, monkeypatch):
    old.chmod(0o444)
    monkeypatch.setattr(os, "access", lambda path, how: False)  # root may write it all the same
    one_line_error(lambda: put(old), old, "read-only")
    assert old.read_bytes() == b"old"


def test_impossible_places_are_told_in_one_line(tmp_path, old):
    one_line_error(lambda: put(tmp_path), tmp_path, "folder")
    one_line_error(lambda: put(tmp_path / "no" / "a"), tmp_path / "no", "does not exist")
    one_line_error(lambda: put(old / "a"), "does not exist")
    one_line_error(lambda: put(tmp_path / "nul\0byte"), "nul")
    one_line_error(lambda: put(tmp_path / "no" / "two\nlines"), r"two\nlines")
    one_line_error(lambda: put(tmp_path / ("x" * 300)), "too long")


def test_an_unwritable_folder_is_told_in_one_line(tmp_path, monkeypatch):
    folder = tmp_path / "locked"
    folder.mkdir()
    real = atomic._open_temporary

    def refuse(target, undo):  # as the system does to anybody but root
        if os.access(folder, os.W_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(target))
        return real(target, undo)

    monkeypatch.setattr(atomic, "_open_temporary", refuse)
    folder.chmod(0o555)
    try:
        one_line_error(lambda: put(folder / "a"), folder / "a", "no permission")
        one_line_error(lambda: prepare_output_folder(folder, NONE), folder, "no permission")
    finally:
        folder.chmod(0o755)
    assert names(folder) == []


@pytest.mark.parametrize("name", ["ü" * 120, "x" * 255, "a b'c\"$(x)", "-rf", "café\u0301", "日本語.bin"])
def test_long_and_odd_names(tmp_path, name):
    put(tmp_path / needs.file_name(name))
    assert names(tmp_path) == [name]


def test_relative_paths(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    put("a")
    put(Path("a"), b"again")
    assert names(tmp_path) == ["a"]
    assert Path("a").read_bytes() == b"again"


def litter(target):
    """A temporary as a killed writer of `target` leaves it."""
    path = target.with_name(f"{atomic._prefix(target)}{os.urandom(8).hex()}.tmp")
    path.write_bytes(b"half")
    if sys.platform == "win32":
        os.utime(path, (0, 0))
    return path


def test_the_next_save_removes_the_litter_of_this_file_alone(tmp_path):
    target = tmp_path / "a"
    gone = [litter(target) for _ in range(3)]
    kept = [
        litter(tmp_path / "b"),
        litter(tmp_path / "a-b"),
        tmp_path / ".coordfit-a-notes.tmp",
        tmp_path / "x.tmp",
    ]
    for path in kept[2:]:
        path.touch()
    put(target)
    assert not any(path.exists() for path in gone)
    assert all(path.exists() for path in kept)


def test_a_file_that_is_being_written_is_no_litter(tmp_path):
    target = tmp_path / "a"
    with atomic_write(target) as slow:
        slow.write(b"slow")
        put(target, b"quick")
        assert target.read_bytes() == b"quick"
    assert target.read_bytes() == b"slow"
    assert names(tmp_path) == ["a"]


@posix
def test_the_lock_outlives_the_close_up_to_the_rename(tmp_path, monkeypatch):
    target, real = tmp_path / "a", Path.replace

    def replace(self, where):  # another process tidies up between the closing and the rename
        atomic._remove_leftovers(target)
        return real(self, where)

    monkeypatch.setattr(Path, "replace", replace)
    put(target)
    assert target.read_bytes() == b"new"


@posix
def test_a_temporary_that_was_taken_for_litter_is_made_anew(tmp_path, monkeypatch):
    target, real, calls = tmp_path / "a", atomic._lock, []

    def lock(descriptor):  # the other process is quicker, once
        if not calls:
            atomic._remove_leftovers(target)
        calls.append(descriptor)
        return real(descriptor)

    monkeypatch.setattr(atomic, "_lock", lock)
    put(target)
    assert len(calls) == 2
    assert names(tmp_path) == ["a"]


@pytest.mark.parametrize("call", ["os.urandom", "_lock", "os.fstat"])
def test_ctrl_c_the_moment_a_temporary_is_there_leaves_none(old, monkeypatch, call):
    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(f"coordfit.files.atomic.{call}", interrupted)
    with pytest.raises(KeyboardInterrupt):
        put(old)
    monkeypatch.undo()
    assert names(old.parent) == ["model.bin"]


def test_many_threads_save_the_same_file(tmp_path):
    target = tmp_path / "a"
    contents = [bytes([i]) * 50_000 for i in range(8)]

    def work(content):
        for _ in range(5):
            put(target, content)
            assert target.read_bytes() in contents

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(work, contents))
    assert names(tmp_path) == ["a"]


@posix
def test_no_descriptor_is_left_open(old):
    if not Path("/proc/self/fd").is_dir():
        pytest.skip("needs /proc")
    before = len(names(Path("/proc/self/fd")))
    for _ in range(5):
        put(old)
        with pytest.raises(ValueError, match="x"), atomic_write(old):
            raise ValueError("x")
        new_run_folder(old.parent / "runs")
    assert len(names(Path("/proc/self/fd"))) == before


SAVE_FOR_EVER = """
import os, sys
from coordfit.files import atomic_write
print("ready", flush=True)
number = 0
while True:
    number = (number + 1) % 256
    with atomic_write(sys.argv[1]) as file:
        for _ in range(16):
            file.write(bytes([number]) * 65536)
"""


@posix
def test_a_writer_killed_at_any_moment_leaves_a_whole_file_and_no_lasting_litter(tmp_path):
    target, draw, left = tmp_path / "a", random.Random(0), 0
    put(target, bytes(16 * 65536))
    for _ in range(8):
        with subprocess.Popen([sys.executable, "-c", SAVE_FOR_EVER, target], stdout=subprocess.PIPE) as child:
            child.stdout.readline()
            time.sleep(draw.uniform(0, 0.03))
            child.send_signal(signal.SIGKILL)
        content = target.read_bytes()
        assert len(content) == 16 * 65536
        assert len(set(content)) == 1
        left = max(left, len(names(tmp_path)) - 1)
    assert left == 1  # kills did hit a save, and the next writer removed what the last one had left
    put(target)
    assert names(tmp_path) == ["a"]


# --- JSON ---------------------------------------------------------------------------------------------------


class Colour(enum.Enum):
    GREY = "grey"


@dataclasses.dataclass(frozen=True)
class Inner:
    sigma: float
    path: Path


@dataclasses.dataclass(frozen=True)
class Outer:
    inner: Inner
    shape: tuple[int, int]
    colour: Colour = Colour.GREY


def strict(text):
    def refuse(name):
        raise AssertionError(name)

    return json.loads(text, parse_constant=refuse)


def test_write_json_is_strict_indented_and_ended(tmp_path):
    document = {
        "psnr": float("inf"),
        "loss": np.float32("nan"),
        "steps": np.int64(3),
        "name": "é",
        "list": [1],
    }
    write_json(tmp_path / "m.json", document)
    text = (tmp_path / "m.json").read_text(encoding="utf-8")
    assert strict(text) == {"psnr": None, "loss": None, "steps": 3, "name": "é", "list": [1]}
    assert text.startswith('{\n  "psnr": null,')
    assert text.endswith("\n}\n")
    assert "é" in text


def test_a_document_that_json_cannot_tell_touches_nothing(old):
    for document in ({"a": object()}, {"a": b"bytes"}, {"a": {1, 2}}, {"a": 1j}, {"a": np.complex64(1)}):
        with pytest.raises(TypeError, match="JSON cannot tell"):
            write_json(old, document)
    with pytest.raises(ValueError, match="same"):
        write_json(old, {1: 0, "1": 1})
    assert old.read_bytes() == b"old"


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (Outer(Inner(float("-inf"), Path("a/b")), (1, 2)), None),
        (np.array([[1, 2], [3, 4]], np.uint8), [[1, 2], [3, 4]]),
        (np.array([1.5, np.nan]), [1.5, None]),
        (np.array(2.0), 2.0),
        (np.float16(0.5), 0.5),
        (np.bool_(True), True),
        (True, True),
        (np.str_("x"), "x"),
        ({Colour.GREY: range(3), 5: None, 0.5: "x"}, {"grey": [0, 1, 2], "5": None, "0.5": "x"}),
        (os.fsdecode(b"caf\xe9"), "caf\\udce9"),
    ],
)
def test_jsonable(value, expected):
    if isinstance(value, Outer):
        expected = {"inner": {"sigma": None, "path": str(Path("a/b"))}, "shape": [1, 2], "colour": "grey"}
    result = jsonable(value)
    assert result == expected
    assert type(result) is type(expected)
    assert strict(json.dumps(result, allow_nan=False, ensure_ascii=False).encode()) == expected


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ('{"a": 1, "a": 1}', "a key is there twice"),
        ('{"a": NaN}', "NaN is no number of JSON"),
        ('{"a": 1e999}', "a number is too large"),
        ("[" * 40 + "]" * 40, "it is nested too deeply"),
        ("[" * 100_000, "it is nested too deeply"),
    ],
)
def test_json_that_is_not_strict_is_not_read(tmp_path, text, reason):
    (tmp_path / "a").write_text(text)
    with pytest.raises(ValueError, match=reason):
        read_json(tmp_path / "a")


def test_floats_keep_their_bits_in_json(tmp_path):
    values = [0.1, 1e-308, 5e-324, -0.0, 1 / 3, float(np.float32(0.1))]
    write_json(tmp_path / "a", {"v": values})
    read = strict((tmp_path / "a").read_text())["v"]
    assert [v.hex() for v in read] == [v.hex() for v in values]


def test_importing_files_does_not_import_numpy():
    code = "import sys, coordfit.files; sys.exit('numpy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], timeout=30).returncode == 0


# --- run folders --------------------------------------------------------------------------------------------


def test_run_folders_are_numbered(tmp_path):
    runs = tmp_path / "deep" / "runs"
    assert [new_run_folder(runs).name for _ in range(3)] == ["001", "002", "003"]
    (runs / "002").rmdir()
    (runs / "007").touch()  # a file takes a number too
    (runs / "20240101120000").mkdir()  # a date does not
    (runs / "best").mkdir()
    assert new_run_folder(runs) == runs / "008"
    (runs / "999").mkdir()
    assert [new_run_folder(runs).name for _ in range(2)] == ["1000", "1001"]
    assert names(runs / "008") == []


def test_run_folders_are_relative_to_the_current_folder_by_default(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert new_run_folder() == Path("runs/001")
    assert (tmp_path / "runs" / "001").is_dir()


def make_run_folders(parent, count, start):
    start.wait()
    return [str(new_run_folder(parent)) for _ in range(count)]


def test_threads_get_distinct_run_folders(tmp_path):
    start = threading.Barrier(8)
    with ThreadPoolExecutor(8) as pool:
        made = [f.result() for f in [pool.submit(make_run_folders, tmp_path, 5, start) for _ in range(8)]]
    assert sorted(itertools.chain(*made)) == [str(tmp_path / f"{i:03d}") for i in range(1, 41)]


def test_processes_get_distinct_run_folders(tmp_path):
    context = multiprocessing.get_context("spawn")
    with context.Manager() as manager, context.Pool(2) as pool:
        start = manager.Barrier(2)
        made = pool.starmap(make_run_folders, [(tmp_path, 20, start)] * 2, chunksize=1)
    assert sorted(itertools.chain(*made)) == [str(tmp_path / f"{i:03d}") for i in range(1, 41)]


def test_run_folders_where_none_can_be(old):
    one_line_error(lambda: new_run_folder(old), old, "file is in its place")
    one_line_error(lambda: new_run_folder(old / "runs"), "file is in its place")


def test_an_output_folder_is_made_and_left_empty(tmp_path):
    folder = prepare_output_folder(tmp_path / "a" / "b", NONE)
    assert folder == tmp_path / "a" / "b"
    assert names(folder) == []


SOME = Outputs(("begun.json", "result.png", "deep/*.bin"), begun=("begun.json",))


def test_a_run_is_not_overwritten_unasked(tmp_path):
    (tmp_path / "notes.txt").touch()
    prepare_output_folder(tmp_path, SOME)  # another file is no run
    (tmp_path / "begun.json").write_bytes(b"old")
    one_line_error(lambda: prepare_output_folder(tmp_path, SOME), tmp_path, "--overwrite", "--resume")
    assert prepare_output_folder(tmp_path, SOME, overwrite=True) == tmp_path
    assert prepare_output_folder(tmp_path, SOME, resume=True) == tmp_path
    assert (tmp_path / "begun.json").read_bytes() == b"old"
    with pytest.raises(ConfigError, match="exclude"):
        prepare_output_folder(tmp_path, SOME, overwrite=True, resume=True)


@pytest.mark.parametrize("name", ["result.png", "deep/a.bin"])
def test_a_file_of_another_is_replaced_with_overwrite_or_by_a_run_that_began_there(tmp_path, name):
    path = tmp_path / name
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(b"mine")
    one_line_error(lambda: SOME.check(tmp_path), path, "--overwrite")
    one_line_error(lambda: SOME.check(tmp_path, resume=True), path, "--overwrite")
    SOME.check(tmp_path, overwrite=True)
    (tmp_path / "begun.json").touch()
    SOME.check(tmp_path, resume=True)
    (path.parent / "other.txt").touch()
    path.unlink()
    (tmp_path / "begun.json").unlink()
    SOME.check(tmp_path)


def listening(path):
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(os.path.relpath(path))  # an absolute one may be too long


IN_THE_WAY = {
    "link": lambda path: path.symlink_to(Path(__file__)),
    "link that dangles": lambda path: path.symlink_to("missing"),
    "link to a folder": lambda path: path.symlink_to(".."),
    "link to itself": lambda path: path.symlink_to(path.name),
    "folder": Path.mkdir,
    "pipe": lambda path: os.mkfifo(path),
    "socket": listening,
}


@posix
@pytest.mark.parametrize("options", [{}, {"overwrite": True}, {"resume": True}], ids=str)
@pytest.mark.parametrize("kind", IN_THE_WAY)
def test_what_is_no_file_is_in_the_way_whatever_was_asked_for(tmp_path, kind, options):
    for name in ("result.png", "deep/x.bin"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        IN_THE_WAY[kind](path)
        said = f"a {kind.split()[0]} is in its place"
        one_line_error(lambda: SOME.check(tmp_path, **options), path, said)
        if options:
            (tmp_path / "begun.json").touch()
            one_line_error(lambda: SOME.check(tmp_path, **options), path, said)
            (tmp_path / "begun.json").unlink()
        path.rmdir() if kind == "folder" else path.unlink()
    assert names(tmp_path) == ["deep"]


@posix
def test_a_folder_below_that_is_a_link_is_in_the_way(tmp_path):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / "deep").symlink_to("../elsewhere")
    one_line_error(lambda: SOME.check(tmp_path / "d", overwrite=True), tmp_path / "d" / "deep", "a link")
    (tmp_path / "link").symlink_to("elsewhere")
    SOME.check(tmp_path / "link")  # the folder itself is what the user named


def test_a_file_named_beside_a_run_has_a_folder_and_a_name_of_its_own(tmp_path):
    one_line_error(lambda: SOME.with_file(tmp_path / "no" / "film.gif").check(tmp_path), "does not exist")
    for name in ("result.png", "deep/../result.png"):
        (tmp_path / "deep").mkdir(exist_ok=True)
        one_line_error(
            lambda name=name: SOME.with_file(tmp_path / name).check(tmp_path), "result.png", "another name"
        )
    (tmp_path / "film.gif").touch()
    one_line_error(lambda: SOME.with_file(tmp_path / "film.gif").check(tmp_path), "film.gif", "--overwrite")
    SOME.with_file(tmp_path / "film.gif").check(tmp_path, overwrite=True)
    SOME.with_file(None).check(tmp_path)


def test_a_read_only_file_is_told_before_the_run(tmp_path, monkeypatch):
    (tmp_path / "result.png").touch()
    monkeypatch.setattr(os, "access", lambda path, how: False)  # root may write it all the same
    one_line_error(lambda: SOME.check(tmp_path, overwrite=True), "result.png", "read-only")


def test_a_new_folder_is_left_only_where_something_is_in_it(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def fail(path, name=None):
        with output_folder(path, NONE) as folder:
            if name:
                (folder / name).touch()
            raise KeyboardInterrupt

    Path("mine").mkdir()
    for path in (Path("new/er"), Path("mine"), Path("mine/new"), None):
        with pytest.raises(KeyboardInterrupt):
            fail(path)
    with pytest.raises(KeyboardInterrupt):
        fail(Path("kept"), "file")
    assert names(tmp_path) == ["kept", "mine"]
    assert names(tmp_path / "mine") == []


@posix
def test_only_files_of_bounded_size_are_read_as_text(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with (tmp_path / "large").open("wb") as file:
        file.truncate(2**28 + 1)
    one_line_error(lambda: read_history(tmp_path / "pipe"), "pipe", "not a file")
    one_line_error(lambda: read_history(tmp_path / "large"), "large", "over the limit")


def test_an_output_folder_that_is_a_file(old):
    one_line_error(lambda: prepare_output_folder(old, NONE), old, "file is in its place")
    one_line_error(lambda: prepare_output_folder("nul\0", NONE), "not a possible name")


@needs_dev_full
def test_a_full_disk_is_found_before_training(tmp_path, monkeypatch):
    real = atomic._open_temporary

    def opened(target, undo):
        temporary, file = real(target, undo)
        file.close()
        return temporary, undo.enter_context(Path("/dev/full").open("wb", buffering=0))

    monkeypatch.setattr(atomic, "_open_temporary", opened)
    one_line_error(lambda: prepare_output_folder(tmp_path, NONE), tmp_path, "disk is full")
    assert names(tmp_path) == []


# --- history ------------------------------------------------------------------------------------------------

COLUMNS = ["step", "loss", "psnr"]
ROWS = [{"step": s, "loss": 0.1 / s, "psnr": None if s == 20 else 3.0 * s} for s in (10, 20, 30)]


@pytest.fixture
def history(tmp_path):
    path = tmp_path / "history.csv"
    with HistoryWriter(path, COLUMNS) as writer:
        for row in ROWS:
            writer.append(row)
    return path


def test_a_history_reads_back_bit_for_bit(tmp_path):
    values = [0.1, 1 / 3, 5e-324, 1e300, -0.0, np.float32(0.1), np.float64(2), np.int32(7), 12, True, 10**17]
    with HistoryWriter(tmp_path / "h", ["step", "a.b-c"]) as writer:
        for step, value in enumerate(values):
            writer.append({"step": step, "a.b-c": value})
    read = [row["a.b-c"] for row in read_history(tmp_path / "h")]
    for got, value in zip(read, values, strict=True):
        whole = isinstance(value, (int, np.integer))
        assert type(got) is (int if whole else float)
        assert got == value
        assert whole or got.hex() == float(value).hex()


def test_not_a_number_and_nothing_are_told_apart(tmp_path):
    with HistoryWriter(tmp_path / "h", COLUMNS) as writer:
        writer.append({"step": 1, "loss": float("nan"), "psnr": float("inf")})
        writer.append({"step": 2})
    first, second = read_history(tmp_path / "h")
    assert np.isnan(first["loss"])
    assert first["psnr"] == float("inf")
    assert second == {"step": 2, "loss": None, "psnr": None}


def test_a_history_is_a_plain_csv_file(history):
    with history.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert rows[1] == {"step": "20", "loss": repr(0.1 / 20), "psnr": ""}
    assert read_history(history) == ROWS


def test_a_row_is_in_the_file_as_soon_as_it_is_appended(tmp_path):
    writer = HistoryWriter(tmp_path / "h", COLUMNS)
    assert read_history(tmp_path / "h") == []
    writer.append(ROWS[0])
    assert read_history(tmp_path / "h") == ROWS[:1]
    writer.close()
    writer.close()


@posix
def test_a_killed_run_keeps_its_curve(tmp_path):
    code = (
        "import os, signal, sys\n"
        "from coordfit.files import HistoryWriter\n"
        "writer = HistoryWriter(sys.argv[1], ['step', 'loss'])\n"
        "for step in range(100): writer.append({'step': step, 'loss': 1 / (step + 1)})\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    done = subprocess.run([sys.executable, "-c", code, tmp_path / "h"], timeout=30)
    assert done.returncode == -signal.SIGKILL
    assert read_history(tmp_path / "h") == [{"step": s, "loss": 1 / (s + 1)} for s in range(100)]


def test_a_history_begins_with_the_rows_of_an_earlier_run(history):
    before = history.read_bytes()
    with HistoryWriter(history, COLUMNS, rows=read_history(history)[:2]) as writer:
        assert read_history(history) == ROWS[:2]
        writer.append({"step": 30, "loss": 0.5})
    assert read_history(history) == [*ROWS[:2], {"step": 30, "loss": 0.5, "psnr": None}]
    HistoryWriter(history, COLUMNS, rows=ROWS).close()
    assert history.read_bytes() == before


def test_a_history_takes_the_place_of_another(history):
    HistoryWriter(history, ["step", "ssim"]).close()
    assert history.read_bytes() == b"step,ssim\n"


def test_earlier_rows_and_the_old_file_are_never_both_gone(history, monkeypatch):
    def fail(descriptor):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(atomic, "sync", fail)
    one_line_error(lambda: HistoryWriter(history, COLUMNS, rows=ROWS[:1]), history, "disk is full")
    assert read_history(history) == ROWS
    assert names(history.parent) == ["history.csv"]


def test_earlier_rows_of_other_columns_are_refused(history):
    for columns, rows in ((["step"], ROWS), (["loss", "a b"], [])):
        with pytest.raises(ValueError, match="column"):
            HistoryWriter(history, columns, rows=rows)
    assert read_history(history) == ROWS


def test_a_last_line_cut_short_at_any_byte_is_dropped(history):
    whole = history.read_bytes()
    start = whole.rindex(b"\n", 0, -1) + 1
    for end in range(start, len(whole)):
        history.write_bytes(whole[:end])
        assert read_history(history) == ROWS[:2]
    HistoryWriter(history, COLUMNS, rows=read_history(history)).close()
    assert history.read_bytes() == whole[:start]


@pytest.mark.parametrize(
    "content", [b"", b"step,loss", b"\xff\xfe\n", b"step,loss\n1,2\nx,1\n", b"step,loss\n1\n2,3\n"]
)
def test_what_is_no_history_is_told_in_one_line(tmp_path, content):
    (tmp_path / "h").write_bytes(content)
    one_line_error(lambda: read_history(tmp_path / "h"), tmp_path / "h")
    assert (tmp_path / "h").read_bytes() == content


def test_a_missing_history(tmp_path):
    one_line_error(lambda: read_history(tmp_path / "h"), tmp_path / "h", "No such file")
    one_line_error(lambda: read_history(tmp_path), tmp_path)


def test_wrong_columns_are_refused(tmp_path):
    for columns in ([], ["a", "a"], ["a,b"], ["a\n"], [""]):
        with pytest.raises(ValueError, match="column"):
            HistoryWriter(tmp_path / "h", columns)
    assert names(tmp_path) == []
    with HistoryWriter(tmp_path / "h", COLUMNS) as writer, pytest.raises(ValueError, match="typo"):
        writer.append({"step": 1, "typo": 2})


@needs_dev_full
def test_a_full_disk_in_a_history_is_told(tmp_path):
    writer = HistoryWriter(tmp_path / "h", COLUMNS)
    writer._file.close()
    writer._file = Path("/dev/full").open("wb", buffering=0)  # noqa: SIM115 - the writer closes it
    one_line_error(lambda: writer.append(ROWS[0]), tmp_path / "h", "disk is full")
    writer.close()


def test_a_row_is_written_whole_where_the_system_takes_parts(tmp_path):
    class Sip:
        def __init__(self, file):
            self.file = file

        def write(self, data):
            return self.file.write(data[:3])

        def close(self):
            self.file.close()

    writer = HistoryWriter(tmp_path / "h", COLUMNS)
    writer._file = Sip(writer._file)
    writer.append(ROWS[0])
    writer.close()
    assert read_history(tmp_path / "h") == ROWS[:1]


def test_printable():
    assert printable(Path("a b/é")) == str(Path("a b/é"))
    assert printable("a\nb") == r"'a\nb'"
    assert printable(os.fsdecode(b"\xff")) == r"'\udcff'"
