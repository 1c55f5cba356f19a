"""Run `coordfit export`: write a fitted model for other programs."""

from __future__ import annotations

import time

from ...files import Outputs, printable
from ...models.format import model_in
from ...tasks.export import SUFFIXES, export, files_of, format_of
from ...tasks.load import load
from ..exit_codes import EXIT_OK
from ..option_types import UsageError
from ..options import Options
from ..streams import print_json


def run(options: Options) -> int:
    """Write the file, or files, and print their paths."""
    if options.to is None and options.out is None:
        raise UsageError(f"say what is to be written: --to {'|'.join(SUFFIXES)}, or a file with --out")
    file = model_in(options.model)
    out = options.out or file.with_suffix(SUFFIXES[options.to][0])
    to = format_of(out, options.to)
    files = files_of(out, to)
    Outputs((), files=files).check(out.parent, overwrite=options.overwrite)
    model = load(file, device="cpu")
    begin = time.perf_counter()
    export(model, out, to=to)
    seconds = time.perf_counter() - begin
    if options.json:
        sizes = {str(path): path.stat().st_size for path in files}
        print_json({"format": to, "files": list(sizes), "bytes": list(sizes.values()), "seconds": seconds})
    else:
        print("\n".join(map(printable, files)))
    return EXIT_OK
