"""Run `coordfit view`: show a model in the browser, as far in as one likes."""

from __future__ import annotations

import tempfile
import webbrowser
from pathlib import Path

from ...files import Outputs, printable
from ...models.format import model_in
from ...tasks.export import export
from ...tasks.load import load
from ..exit_codes import EXIT_OK
from ..options import Options
from ..session import make_log
from ..streams import print_json


def run(options: Options) -> int:
    """Write the page, open it and print its path."""
    file = model_in(options.model)
    if options.out is not None:
        Outputs((), files=(options.out,)).check(options.out.parent, overwrite=options.overwrite)
    model = load(file, device="cpu")
    out = options.out or Path(tempfile.mkdtemp(prefix="coordfit-")) / f"{file.stem}.html"
    export(model, out, to="html")
    is_opened = not options.no_browser and webbrowser.open(out.resolve().as_uri())
    if not (is_opened or options.no_browser):
        make_log(options)("no browser could be started: open the page yourself")
    if options.json:
        print_json({"page": str(out), "bytes": out.stat().st_size, "opened": is_opened})
    else:
        print(printable(out))
    return EXIT_OK
