"""Encodings side by side: the same network on none, basic, positional and Gaussian features, as one batch."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Unpack

from ..backends import Backend
from ..components import Component, name_of
from ..config import sigma_in_words
from ..encoders.registry import encoding_class
from ..files import escaped
from ..fit_options import AllOptions, Auto, EncodingName, RecipeName
from ..images import Picture, load_picture, png_bytes
from ..report.line_plot import save_lines
from ..report.notebook import html_of
from ..report.side_by_side import side_by_side
from ..report.table import Table
from ..tiles.plan import TileOptions
from ..training.result import FitResult
from ..training.state import Callback, ShouldStop, Trial
from .jobs.plan import AnyJob, plan, settled, trained, trained_elsewhere
from .jobs.settings import Keywords, Settings, values_in

if TYPE_CHECKING:
    from concurrent.futures import Executor

    import numpy as np
    from numpy.typing import ArrayLike, NDArray
    from PIL import Image

Sigma = float | tuple[float, ...]

AUTO = "gaussian auto"
"""The name of the network whose sigma is chosen; the table and the picture tell the number."""
_FIGURES = ("psnr", "psnr_train", "psnr_held_out", "ssim", "steps", "seconds", "parameters")


@dataclass(frozen=True, repr=False)
class Comparison:
    """What several encodings made of one picture: a result for each by name, in the order asked for."""

    picture: Picture
    results: Mapping[str, FitResult]

    @property
    def table(self) -> Table:
        """One row for each encoding."""
        rows = [
            {"encoding": name, "sigma": _sigma(result)}
            | {figure: result.metrics[figure] for figure in _FIGURES}
            for name, result in self.results.items()
        ]
        return Table(rows)

    def picture_of_all(self) -> Image.Image:
        """Truth, each reconstruction with its figures, and the maps of their errors on one scale."""
        panels = [(_label(name, r), r.reconstruction, _figures(r)) for name, r in self.results.items()]
        title = f"{self.picture.name}, {self.picture.width}x{self.picture.height}"
        sides = {result.metrics["tile"] for result in self.results.values() if "tile" in result.metrics}
        if sides:
            title += f"; tiles of {' and '.join(f'{side}x{side}' for side in sorted(sides))}"
        return side_by_side(self.picture.pixels, panels, title=title)

    def save_curves(self, path: Any) -> None:
        """PSNR over steps as an SVG: training pixels, and held-out ones dashed where there are any.

        Tiles have none: each ends when it is good enough.
        """
        train = {name: _points(result, "psnr_train") for name, result in self.results.items()}
        held_out = {name: _points(result, "psnr_held_out") for name, result in self.results.items()}
        dashed = {name: points for name, points in held_out.items() if points}
        save_lines(path, train, dashed=dashed, title="PSNR while training", x_label="step", y_label="PSNR / dB")

    def __repr__(self) -> str:
        found = ", ".join(f"{name} {result.metrics['psnr']:.2f} dB" for name, result in self.results.items())
        return f"<Comparison on {escaped(self.picture.name)}: {found}>"

    def _repr_png_(self) -> bytes:
        """The picture of all, where a notebook shows the comparison."""
        return png_bytes(self.picture_of_all())

    def _repr_html_(self) -> str:
        """The table and the picture of all, where a notebook shows the comparison."""
        return self.table._repr_html_() + html_of(self.picture.name, [], self._repr_png_())


def compare(
    image: Any,
    *,
    encodings: Sequence[EncodingName | Component] | None = None,
    sigmas: Sequence[float | Auto] | None = None,
    recipe: RecipeName | None = None,
    callback: Callback | None = None,
    executor: Executor | None = None,
    known: NDArray[np.bool_] | None = None,
    weights: ArrayLike | None = None,
    **options: Unpack[AllOptions],
) -> Comparison:
    """Fit the same network with several encodings, together as one batch; or tiles, one encoding after another.

    Parameters
    ----------
    image : picture
        As `coordfit.fit` takes it.
    encodings : sequence of names or objects, optional
        By default all built-in ones (for tiles, those that learn nothing), and an object that `encoding` is.
    sigmas : sequence of float, optional
        For `gaussian`: one network each; too small, right and too large by default. `auto` chooses one.
    callback : callable, optional
        Told of the progress of what runs here; see `Progress`.
    executor : concurrent.futures.Executor, optional
        Takes the networks of each shape, as `sweep` has it.
    known, weights : arrays (H, W), optional
        As `coordfit.fit` takes them.
    **options
        As `coordfit.fit` takes them, the same for all; pictures are whole if nothing is asked of tiles. Of
        tiles, sigma is in cycles per side of a tile.
    """
    keywords = Keywords.split(options)
    settings = Settings([keywords.settings], recipe)
    asked = settings.config
    picture = load_picture(image, size=asked.size, background=asked.background)
    backend = keywords.device.make()
    pixels = {"known": known, "weights": weights}
    jobs = jobs_for(picture, settings, keywords.tiles, encodings, sigmas, **pixels)
    jobs = settled_jobs(jobs, backend)
    if executor is None:
        return compare_jobs(backend, picture, jobs, callback)
    results = dict(trained_elsewhere(executor, list(jobs.values()), keywords.device))
    return Comparison(picture, {name: results[number] for number, name in enumerate(jobs)})


def jobs_for(
    picture: Picture,
    settings: Settings,
    tiles: TileOptions,
    encodings: Sequence[str | Component] | None,
    sigmas: Sequence[Sigma | str] | None,
    **pixels: Any,
) -> dict[str, AnyJob]:
    """Return jobs by name: each encoding once (None: all that can be), `gaussian` once for each sigma.

    `pixels` are the known ones and their weights, as `plan` takes them.
    """
    encodings, sigmas = values_in(encodings), values_in(sigmas)
    first = plan(picture, settings, tiles, **pixels)
    right = first.config.replace(encoding="gaussian").resolved_sigma
    alike = first.decided(tiles)
    own = [] if isinstance(first.config.encoding, str) else [first.config.encoding]
    return {
        name: plan(picture, settings.over(first.layer(layer)), alike, **pixels)
        for name, layer in _variants(encodings or [*first.encodings, *own], sigmas, right)
    }


def _variants(
    encodings: Sequence[Any], sigmas: Sequence[Sigma | str] | None, right: Sigma
) -> Iterator[tuple[str, dict[str, Any]]]:
    """Names and what differs; `right` is the sigma that suits."""
    for encoding in encodings:
        if encoding != "gaussian":
            yield name_of(encoding), {"encoding": encoding, "sigma": None}
            continue
        for sigma in sigmas or (_over(5.0, right), right, _over(0.2, right)):
            named = sigma if isinstance(sigma, str) else sigma_in_words(sigma)
            yield f"gaussian {named}", {"encoding": encoding, "sigma": sigma}


def _over(divisor: float, sigma: Sigma) -> Sigma:
    return tuple(number / divisor for number in sigma) if isinstance(sigma, tuple) else sigma / divisor


def settled_jobs(jobs: Mapping[str, AnyJob], backend: Backend, trial: Trial | None = None) -> dict[str, AnyJob]:
    """Choose a number for each sigma that is `auto`; `trial` is told of the progress of the choice."""
    return {name: settled(job, backend, trial)[0] for name, job in jobs.items()}


def compare_jobs(
    backend: Backend,
    picture: Picture,
    jobs: Mapping[str, AnyJob],
    callback: Callback | None = None,
    should_stop: ShouldStop | None = None,
    on_result: Callable[[str, FitResult], object] | None = None,
) -> Comparison:
    """Train jobs, networks of one shape together; of tiles, those that were finished when it was to stop.

    `on_result` is told of each name and result as it is finished.
    """
    names, results = list(jobs), {}
    for number, result in trained(list(jobs.values()), backend, callback, should_stop):
        results[names[number]] = result
        if on_result is not None:
            on_result(names[number], result)
    return Comparison(picture, {name: results[name] for name in names if name in results})


def _sigma(result: FitResult) -> float | tuple[float, ...] | None:
    """The sigma of an encoding that has one."""
    return result.config.resolved_sigma if encoding_class(result.config.encoding).has_sigma else None


def _label(name: str, result: FitResult) -> str:
    return f"{name}, {sigma_in_words(result.config.resolved_sigma)}" if name == AUTO else name


def _figures(result: FitResult) -> list[tuple[str, str]]:
    m = result.metrics
    rows = [("PSNR", m["psnr"]), ("train", m["psnr_train"]), ("held out", m["psnr_held_out"])]
    shown = rows if m["psnr_held_out"] is not None else rows[:1]
    ssim = [] if m["ssim"] is None else [("SSIM", f"{m['ssim']:.4f}")]
    return [(label, f"{value:.2f} dB") for label, value in shown] + ssim


def _points(result: FitResult, column: str) -> list[tuple[float, float]]:
    return [
        (float(row["step"] or 0), float(row[column] or 0)) for row in result.history if row[column] is not None
    ]
