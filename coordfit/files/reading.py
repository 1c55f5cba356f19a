"""Read text files of a run without trusting them: regular files of bounded size alone."""

from __future__ import annotations

import errno
import stat
from pathlib import Path

# A history has about 100 bytes a row; no run evaluates often enough to come near this.
MAX_TEXT_BYTES = 2**28


def read_text(path: Path, errors: str = "strict", *, max_bytes: int = MAX_TEXT_BYTES) -> str:
    """Read a UTF-8 file after checking what it is; `errors` is that of `bytes.decode`.

    Raises
    ------
    OSError
        It is missing, cannot be read, has more than `max_bytes`, or is no file (a pipe would never end).
        `strerror` says what is wrong.
    UnicodeDecodeError
        It is not text.
    """
    status = path.stat()
    if not stat.S_ISREG(status.st_mode):
        raise OSError(errno.EINVAL, "it is not a file", str(path))
    if status.st_size > max_bytes:
        told = f"it has {status.st_size} bytes, over the limit of {max_bytes}"
        raise OSError(errno.EFBIG, told, str(path))
    return path.read_bytes().decode("utf-8", errors)
