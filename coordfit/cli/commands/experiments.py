"""Run `coordfit experiments`: the study or parts of it, into one HTML report."""

from __future__ import annotations

import shlex
import sys
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from ..._version import __version__
from ...experiments import check_names, run_experiment
from ...experiments.common import Outcome, Study
from ...files import Outputs, printable, write_bytes, write_json
from ...files.lock import output_folder
from ...images import png_bytes
from ...report.html import Section, save_report
from ...report.svg import save_svg
from ..exit_codes import EXIT_OK
from ..interrupts import GracefulStop
from ..options import Options
from ..session import is_shown, make_backend, make_log
from ..streams import print_json

REPORT, SUMMARY = "report.html", "experiments.json"


def run(options: Options) -> int:
    """Run the named experiments, and write each as soon as it is finished."""
    log = make_log(options)
    names = check_names(options.names)
    backend = make_backend(options, log)
    study = Study(backend, image=options.image, seed=int(options.seed), quick=options.quick)
    picture = study.original
    outputs = _outputs(names)
    with output_folder(options.out, outputs, overwrite=options.overwrite) as folder, GracefulStop() as stop:
        report = _Report(folder, options, f"{picture.name}, {picture.width}x{picture.height}", backend.device)
        for number, name in enumerate(names, start=1):
            line = _ProgressLine(f"{number}/{len(names)} {name}", options)
            start, outcome = time.perf_counter(), None
            with stop.at_once():
                outcome = run_experiment(name, study)
            if outcome is None:
                line.end("stopped")
                break
            report.add(outcome, time.perf_counter() - start)
            line.end(f"{time.perf_counter() - start:.1f} s")
            if stop.is_asked_for():
                break
    report.print()
    if len(report.entries) == len(names):
        return EXIT_OK
    left = names[len(report.entries) :]
    done = f"{len(report.entries)} of {len(names)} experiments are done and saved"
    log(f"interrupted; {done}, go on with experiments {' '.join(left)} and another --out")
    return stop.exit_code


def _outputs(names: Iterable[str]) -> Outputs:
    own = [f"{name}{end}" for name in names for end in (".json", ".csv", "-*.png", "-*.svg")]
    return Outputs((REPORT, SUMMARY, *own))


class _ProgressLine:
    """One line on stderr for each experiment: its name while it runs, and then its time."""

    def __init__(self, label: str, options: Options) -> None:
        self.shown = is_shown(options)
        self._write(f"{label} ... ")

    def end(self, result: str) -> None:
        self._write(f"{result}\n")

    def _write(self, text: str) -> None:
        if self.shown:
            print(text, end="", file=sys.stderr, flush=True)


class _Report:
    """The folder of a study: tables and pictures of each experiment, and the report of all so far."""

    def __init__(self, folder: Path, options: Options, picture: str, device: str) -> None:
        self.folder, self.options, self.picture, self.device = folder, options, picture, device
        self.entries: list[dict[str, Any]] = []
        self._sections: list[Section] = []

    def add(self, outcome: Outcome, seconds: float) -> None:
        """Write all files of one experiment, then the report with it."""
        entry = {
            "name": outcome.name,
            "question": outcome.question,
            "finding": outcome.finding,
            "settings": outcome.settings,
            "seconds": seconds,
            "table": list(outcome.table),
        }
        write_json(self.folder / f"{outcome.name}.json", entry)
        write_bytes(self.folder / f"{outcome.name}.csv", outcome.table.to_csv().encode())
        for drawing in outcome.pictures:
            self._save_picture(f"{outcome.name}-{drawing.name}", drawing.picture)
        self.entries.append(entry)
        self._sections.append(self._section(outcome, seconds))
        write_json(self.folder / SUMMARY, self.summary())
        save_report(self.folder / REPORT, "Coordinate networks: a study", self._introduction(), self._sections)

    def summary(self) -> dict[str, Any]:
        """Return the study as one document."""
        return {
            "folder": str(self.folder),
            "report": str(self.folder / REPORT),
            "picture": self.picture,
            "seed": int(self.options.seed),
            "quick": self.options.quick,
            "device": self.device,
            "coordfit": __version__,
            "experiments": self.entries,
        }

    def print(self) -> None:
        """Print the findings, or the whole as JSON."""
        if self.options.json:
            print_json(self.summary())
            return
        for entry in self.entries:
            print(f"{entry['name']}: {entry['finding']}")
        print(printable(self.folder))

    def _save_picture(self, stem: str, picture: Any) -> None:
        if isinstance(picture, str):
            save_svg(self.folder / f"{stem}.svg", picture)
        else:
            write_bytes(self.folder / f"{stem}.png", png_bytes(picture))

    def _section(self, outcome: Outcome, seconds: float) -> Section:
        section = Section(outcome.title).add_text(outcome.question).add_finding(outcome.finding)
        section.add_table(outcome.table, best=outcome.best, within=outcome.within)
        for drawing in outcome.pictures:
            section.add_picture(drawing.picture, drawing.caption)
        section.add_settings(outcome.settings | {"time": f"{seconds:.1f} s on {self.device}"})
        return section.add_command(self._command(outcome.name))

    def _command(self, name: str) -> str:
        """Return the command line that repeats an experiment."""
        image = [] if self.options.image is None else ["--image", self.options.image]
        quick = ["--quick"] if self.options.quick else []
        words = ["coordfit", "experiments", name, *quick, *image, "--seed", str(self.options.seed)]
        return shlex.join(words)

    def _introduction(self) -> list[str]:
        first = (
            "What small neural networks that learn a picture as a function (x, y) -> colour can do, measured "
            f"on {self.picture}, with seed {self.options.seed}, by coordfit {__version__}. PSNR is "
            "-10 log10(MSE) of clipped predictions with peak 1; training pixels and those that a network never "
            "saw are told apart. The sentences with a bar at their left are made from the numbers of this run, "
            "which is one picture and, unless stated otherwise, one seed."
        )
        quick = "This was a quick run, of small pictures and few steps: it shows that all works, and no more."
        return [first, quick] if self.options.quick else [first]
