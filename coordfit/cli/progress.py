"""Live progress on stderr: a bar on a terminal, a line now and then elsewhere."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from tqdm import tqdm

from ..ensemble import EnsembleProgress
from ..training import HistoryRow, Progress

_LINES = 10


class ProgressReport:
    """Shows each `Progress`: step, loss, PSNR, rate and time left.

    Parameters
    ----------
    shown : bool
        False for silence.
    """

    def __init__(self, *, shown: bool) -> None:
        self.on_terminal = shown and sys.stderr.isatty()
        self.as_lines = shown and not self.on_terminal
        self._next_line = 0

    def __enter__(self) -> ProgressReport:
        self._bar = tqdm(file=sys.stderr, disable=not self.on_terminal, unit="step", mininterval=0.2)
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.close()

    def __call__(self, progress: Progress) -> None:
        """Show how far the run is."""
        if self.on_terminal:
            if progress.row is not None:
                self._bar.set_postfix_str(_figures(progress.row), refresh=False)
            self._bar.total = progress.steps
            self._bar.update(progress.step - self._bar.n)
        elif self.as_lines and progress.evaluated and progress.step >= self._next_line:
            self._next_line = progress.step + max(1, progress.steps // _LINES)
            self._print_line(progress)

    def _print_line(self, progress: Progress) -> None:
        left = (progress.steps - progress.step) / max(progress.steps_per_second, 1e-9)
        timing = f", {progress.steps_per_second:.0f} steps/s, {left:.0f} s left" if progress.step else ""
        row = "" if progress.row is None else _figures(progress.row)
        print(f"step {progress.step}/{progress.steps}: {row}{timing}", file=sys.stderr, flush=True)


def _figures(row: HistoryRow) -> str:
    if row["psnr"] is None:  # hidden pixels have no truth: known ones are all that can be scored
        return f"loss {row['loss']:.2e}, known pixels {row['psnr_train']:.2f} dB"
    text = f"loss {row['loss']:.2e}, PSNR {row['psnr']:.2f} dB"
    held_out = row["psnr_held_out"]
    return text if held_out is None else f"{text}, held out {held_out:.2f} dB"


class EnsembleReport:
    """Shows how far a batch of networks is: its step, and the PSNR of each or the range of many.

    Parameters
    ----------
    names : sequence of str
        Of the members, where the batch is all of them.
    shown : bool
        False for silence.
    """

    def __init__(self, names: Sequence[str], *, shown: bool) -> None:
        self.names, self.shown, self._next_line = names, shown, 0

    def __call__(self, progress: EnsembleProgress) -> None:
        """Print a line now and then."""
        if progress.step == 0:
            self._next_line = 0
        if not self.shown or progress.step < self._next_line:
            return
        self._next_line = progress.step + max(1, progress.steps // _LINES)
        last = [member.history[-1]["psnr"] or 0.0 for member in progress.members if member.history]
        if len(self.names) == len(last) <= 8:
            text = ", ".join(f"{name} {psnr:.2f}" for name, psnr in zip(self.names, last, strict=True))
        else:
            text = f"{len(last)} networks, {min(last, default=0.0):.2f} to {max(last, default=0.0):.2f}"
        print(f"step {progress.step}/{progress.steps}: {text} dB", file=sys.stderr, flush=True)
