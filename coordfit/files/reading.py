"""Read text files of a run only if they are regular files of bounded size."""

from __future__ import annotations

import errno
import stat
from pathlib import Path

MAX_TEXT_BYTES = 2**28  # a history has about 100 bytes a row, and far fewer rows than this allows


def read_text(path: Path, errors: str = "strict", *, max_bytes: int = MAX_TEXT_BYTES) -> str:
    """Read a UTF-8 file after checking its kind and size; `errors` is that of `bytes.decode`.

    Raises
    ------
    OSError
        It is missing, unreadable, larger than `max_bytes`, or no regular file (a pipe would never end). Its
        `strerror` gives the reason.
    UnicodeDecodeError
        It is not text.
    """
    status = path.stat()
    if not stat.S_ISREG(status.st_mode):
        raise OSError(errno.EINVAL, "it is not a file", str(path))
    if status.st_size > max_bytes:
        reason = f"it has {status.st_size} bytes, over the limit of {max_bytes}"
        raise OSError(errno.EFBIG, reason, str(path))
    return path.read_bytes().decode("utf-8", errors)
