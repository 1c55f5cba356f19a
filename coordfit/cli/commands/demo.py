"""Run `coordfit demo`: a page on which pictures are dropped, until Ctrl-C."""

from __future__ import annotations

import dataclasses
import time
import webbrowser

from ...live.demo import Demo
from ..interrupts import GracefulStop
from ..option_types import UsageError
from ..options import Options
from ..session import device_of, make_backend, make_log
from ..streams import print_json

_BETWEEN_SECONDS = 0.2
"""Between two looks whether to end."""


def run(options: Options) -> int:
    """Serve the page, print its address, and wait for Ctrl-C."""
    log = make_log(options)
    make_backend(options, log)  # refuses a device that is not there before a picture is dropped
    with _demo(options) as demo, GracefulStop() as stop:
        is_opened = not options.no_browser and webbrowser.open(demo.url)
        if options.json:
            print_json({"page": demo.url, "opened": is_opened})
        else:
            print(demo.url, flush=True)
        log("drop pictures on the page; Ctrl-C ends it")
        while not stop.is_asked_for():
            time.sleep(_BETWEEN_SECONDS)
    return stop.exit_code


def _demo(options: Options) -> Demo:
    try:
        return Demo(options.port, **dataclasses.asdict(device_of(options)))
    except OSError as error:
        raise UsageError(f"--port {options.port} cannot be used ({error.strerror}); choose another") from error
