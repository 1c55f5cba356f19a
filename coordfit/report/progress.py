"""Show live progress on stderr: a bar on a terminal or in a notebook, and lines elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Self, cast

if TYPE_CHECKING:
    from ..codec import CompressionProgress
    from ..training.member import HistoryRow
    from ..training.state import Progress

_LINES = 10
_SECONDS_BETWEEN_LINES = 5.0


class Bar:
    """Shows the progress of some work.

    Rate and time left count from the first new step, without steps of an earlier run and compilation.

    Parameters
    ----------
    unit : str
        What is counted.
    shown : bool
        False for silence.
    label : str
        Text before the bar.
    time_limited : bool
        Whether lines come every few seconds, and not with every tenth of the work.
    repeats : bool
        Whether a smaller count begins a new bar.
    """

    def __init__(
        self, unit: str, *, shown: bool, label: str = "", time_limited: bool = False, repeats: bool = False
    ) -> None:
        self.unit, self.label, self.time_limited, self.repeats = unit, label, time_limited, repeats
        self.on_terminal = shown and (sys.stderr.isatty() or _is_notebook())
        self.as_lines = shown and not self.on_terminal
        self._last_line = time.perf_counter()
        self._begin()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _begin(self) -> None:
        self._bar: Any = None
        self._initial: int | None = None
        self._done = 0
        self._start: tuple[int, float] | None = None
        self._next_line = 0

    def close(self) -> None:
        """End the bar; later figures begin another."""
        if self._bar is not None:
            self._bar.close()
        self._begin()

    def show(
        self, done: int, total: int, text: str = "", *, line: bool = True, is_estimate: bool = False
    ) -> None:
        """Show the progress; `line` says whether a line may be printed if there is no bar.

        A total that is an estimate is not shown before there is progress.
        """
        if self.repeats and done < self._done:
            self.close()
        self._done = done
        if self._initial is None:
            self._initial = done
        began = self._start is None and done > self._initial
        if began:
            self._start = done, time.perf_counter()
        if self.on_terminal:
            self._show_bar(done, None if is_estimate and not done else total, text, began)
        elif self.as_lines and line and self._is_time_for_a_line(done, total):
            self._print_line(done, total, text, is_estimate=is_estimate)

    def show_compression(self, progress: CompressionProgress) -> None:
        """Show how far a compression is, once it has taken a step."""
        if progress.step:
            text = f"{progress.psnr:.2f} dB, {progress.bits_per_pixel:.3f} bits per pixel"
            self.show(progress.step, max(progress.step + 1, round(progress.step / progress.done)), text)

    def _show_bar(self, done: int, total: int | None, text: str, began: bool) -> None:
        if self._bar is None:
            self._bar = _tqdm()(
                total=total,
                initial=done,
                desc=self.label or None,
                unit=self.unit,
                unit_scale=self.unit == "pixel",
                file=sys.stderr,
                mininterval=0.2,
                smoothing=0.1,
            )
        bar = self._bar
        bar.set_postfix_str(text, refresh=False)
        bar.total = total
        if began:  # the rate counts from here
            bar.initial = bar.n = bar.last_print_n = done
            bar.start_t = bar.last_print_t = time.time()
            bar.refresh()
        bar.update(done - bar.n)

    def _is_time_for_a_line(self, done: int, total: int) -> bool:
        if self.time_limited:
            return time.perf_counter() - self._last_line >= _SECONDS_BETWEEN_LINES
        return done >= self._next_line

    def _print_line(self, done: int, total: int, text: str, *, is_estimate: bool) -> None:
        self._last_line, self._next_line = time.perf_counter(), done + max(1, total // _LINES)
        words = [text] if text else []
        if self._start is not None and done > self._start[0]:
            rate = (done - self._start[0]) / max(self._last_line - self._start[1], 1e-9)
            words += [f"{rate:,.0f} {self.unit}s/s", f"{(total - done) / rate:.0f} s left"]
        label = f"{self.label}, " if self.label else ""
        of = f"/{total}" if not is_estimate else f" of about {total}" if done else ""
        print(  # noqa: T201, as a bar is shown to those who ask for it
            f"{label}{self.unit} {done}{of}: {', '.join(words)}", file=sys.stderr, flush=True
        )


def _is_notebook() -> bool:
    return "ipykernel" in sys.modules


def _tqdm() -> Any:
    if _is_notebook():
        from tqdm.auto import tqdm as of_notebooks

        return of_notebooks
    from tqdm import tqdm

    return tqdm


class ProgressReport(Bar):
    """Shows each `Progress`: steps and figures of networks, or the pixels that tiles have learned.

    Successive runs have a bar each. `names` are those of networks that are all trained together.
    """

    def __init__(self, names: Sequence[str] = (), *, shown: bool) -> None:
        super().__init__("step", shown=shown)
        self.names, self._runs, self._latest = names, 0, -1

    def __call__(self, progress: Progress) -> None:
        """Show the progress of a run."""
        self.time_limited = progress.tiles > 0
        self.unit = "pixel" if progress.tiles else "step"
        done, total = progress.step, progress.steps
        if progress.tiles:
            done, total = progress.pixels, progress.total_pixels
        if done < self._latest or self._latest < 0:
            self.close()
            self._runs += not progress.tiles
            self.label = f"batch {self._runs}" if self._runs > 1 else ""
        self._latest = done
        line = progress.evaluated or progress.tiles > 0
        self.show(done, total, self._text(progress), line=line, is_estimate=progress.is_estimate)

    def _text(self, progress: Progress) -> str:
        if progress.tiles:
            return "" if progress.psnr is None else f"{progress.psnr:.2f} dB"
        if len(progress.members) > 1:
            return self._of_each(progress)
        return "" if progress.row is None else _figures(progress.row)

    def _of_each(self, progress: Progress) -> str:
        last = [member.history[-1]["psnr"] or 0.0 for member in progress.members if member.history]
        if len(self.names) == len(last) <= 8 and not self.on_terminal:  # a bar is shorter than a line
            text = ", ".join(f"{name} {psnr:.2f}" for name, psnr in zip(self.names, last, strict=True))
        else:
            text = f"{len(last)} networks, {min(last, default=0.0):.2f} to {max(last, default=0.0):.2f}"
        return f"{text} dB"


def _figures(row: HistoryRow) -> str:
    if row["psnr"] is None:  # hidden pixels have no truth
        return f"loss {row['loss']:.2e}, known pixels {row['psnr_train']:.2f} dB"
    if (bits := row.get("bits_per_pixel")) is not None:
        return f"PSNR {row['psnr']:.2f} dB, {bits:.3f} bits per pixel"
    text = f"loss {row['loss']:.2e}, PSNR {row['psnr']:.2f} dB"
    held_out = row["psnr_held_out"]
    return text if held_out is None else f"{text}, held out {held_out:.2f} dB"


class ProgressBar(ProgressReport):
    """A callback that shows the progress, and ends each bar with its run."""

    def __init__(self) -> None:
        super().__init__(shown=sys.stderr is not None)  # as in a program without a console

    def __call__(self, progress: Progress | CompressionProgress) -> None:
        """Show the progress of a run; a last look at a finished one makes no other bar."""
        if hasattr(progress, "bits_per_pixel"):
            self.time_limited = True
            self.show_compression(cast("CompressionProgress", progress))
            return
        done, total = progress.step, progress.steps
        if self._bar is None and done == self._latest == total:
            return
        super().__call__(progress)
        if done == total and progress.evaluated:
            self.close()


def progress_bar() -> ProgressBar:
    """Return a callback with a progress bar on stderr, or in a notebook: `fit(..., callback=progress_bar())`.

    Without a terminal it prints a line now and then. In a `with` block it ends at the end of the block too.
    """
    return ProgressBar()


class SigmaReport(Bar):
    """Shows the progress of a choice of sigma."""

    def __init__(self, *, shown: bool) -> None:
        super().__init__("step", shown=shown, label="sigma auto", time_limited=True, repeats=True)
