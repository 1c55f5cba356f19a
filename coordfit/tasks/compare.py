"""Encodings side by side: the same network on none, basic, positional and Gaussian features, as one batch."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Unpack

from .._backends import Backend, get_backend
from ..config import FitConfig, make_config
from ..encoders.registry import ENCODINGS
from ..files import escaped
from ..fit_options import Auto, EncodingName, FitOptions, FusedMode, Precision, RecipeName, Tiles
from ..images import Picture, load_picture, png_bytes
from ..report.table import Table
from ..tiles.fit import TiledJob, TiledResult
from ..tiles.plan import TileOptions, TilePlan
from ..training.job import Job, group_by_shape
from ..training.result import FitResult, Result
from ..training.state import Callback, ShouldStop, Trial
from ..training.trainer import fit_together

if TYPE_CHECKING:
    from PIL import Image

AUTO = "gaussian auto"
"""The name of the network whose sigma is chosen; the table and the picture tell the number."""
_FIGURES = ("psnr", "psnr_train", "psnr_held_out", "ssim", "steps", "seconds", "parameters")


@dataclass(frozen=True, repr=False)
class Comparison:
    """What several encodings made of one picture: a result for each by name, in the order asked for.

    A result is a `FitResult`, or a `TiledResult` where the picture was cut into tiles.
    """

    picture: Picture
    results: Mapping[str, Result]

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
        from ..report.side_by_side import side_by_side

        panels = [(_label(name, r), r.reconstruction, _figures(r)) for name, r in self.results.items()]
        title = f"{self.picture.name}, {self.picture.width}x{self.picture.height}"
        sides = {
            result.model.layout.tile for result in self.results.values() if isinstance(result, TiledResult)
        }
        if sides:
            title += f"; tiles of {' and '.join(f'{side}x{side}' for side in sorted(sides))}"
        return side_by_side(self.picture.pixels, panels, title=title)

    def save_curves(self, path: Any) -> None:
        """PSNR over steps as an SVG: training pixels, and held-out ones dashed where there are any.

        Tiles have none: each ends when it is good enough.
        """
        from ..report.line_plot import save_lines

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


def compare(
    image: Any,
    *,
    encodings: Sequence[EncodingName] | None = None,
    sigmas: Sequence[float | Auto] | None = None,
    device: str = "auto",
    threads: int | None = None,
    fused: FusedMode = "auto",
    precision: Precision = "float32",
    recipe: RecipeName | None = None,
    callback: Callable[[Any], bool | None] | None = None,
    tiles: Tiles | None = None,
    budget_parameters: int | None = None,
    every_tile: bool = False,
    **options: Unpack[FitOptions],
) -> Comparison:
    """Fit the same network with several encodings, together as one batch; or tiles, one encoding after another.

    Parameters
    ----------
    image : picture
        As `coordfit.fit` takes it.
    encodings : sequence of str, optional
        All by default: `none`, `basic`, `positional`, `gaussian`; of tiles, those that learn nothing.
    sigmas : sequence of float, optional
        For `gaussian`: one network each; too small, right and too large by default. `auto` chooses one.
    callback : callable, optional
        Told of the progress; see `Progress`.
    tiles, budget_parameters, every_tile
        As `coordfit.fit` takes them; whole pictures without them. Sigma is then in cycles per side of a tile.
    **options
        Fields of `FitConfig`, the same for all.
    """
    base = make_config(options, recipe=recipe)
    picture = load_picture(image, size=base.size, background=base.background)
    backend = get_backend(device, fused=fused, threads=threads, precision=precision)
    asked = TileOptions(tiles, budget_parameters, every_tile)
    jobs = tiled_jobs(picture, asked, options, encodings, sigmas, recipe=recipe)
    if isinstance(jobs, str):
        return compare_on(backend, picture, configs_for(base, encodings, sigmas), callback)
    return compare_tiles(backend, picture, jobs, callback)


def configs_for(
    base: FitConfig, encodings: Sequence[str] | None, sigmas: Sequence[float | str] | None
) -> dict[str, FitConfig]:
    """Return settings by name: each encoding once (all for None), `gaussian` once for each sigma."""
    right = base.replace(encoding="gaussian").resolved_sigma
    return {name: base.replace(**own) for name, own in _variants(encodings or [*ENCODINGS], sigmas, right)}


def _variants(
    encodings: Sequence[str], sigmas: Sequence[float | str] | None, right: float
) -> Iterator[tuple[str, dict[str, Any]]]:
    """Names and what differs; `right` is the sigma that suits."""
    for encoding in encodings:
        if encoding != "gaussian":
            yield encoding, {"encoding": encoding, "sigma": None}
            continue
        for sigma in sigmas or (right / 5.0, right, right * 5.0):
            named = sigma if isinstance(sigma, str) else f"{sigma:g}"
            yield f"gaussian {named}", {"encoding": encoding, "sigma": sigma}


def tiled_jobs(
    picture: Picture,
    asked: TileOptions,
    settings: Mapping[str, Any],
    encodings: Sequence[str] | None,
    sigmas: Sequence[float | str] | None,
    *,
    recipe: str | None = None,
) -> dict[str, TiledJob] | str:
    """As `configs_for`, of tiles; or the reason why one network learns the whole picture.

    Raises
    ------
    ConfigError
        Tiles are asked for and cannot be had with those settings.
    """
    plan = asked.plan(picture, settings, recipe=recipe)
    if isinstance(plan, str):
        return plan
    side = plan.layout.tile if asked.budget_parameters is None else None
    of_all = dataclasses.replace(asked, tiles=side or asked.tiles)  # `auto` has decided
    jobs = {}
    able = [name for name, encoding in ENCODINGS.items() if not encoding.learns]
    for name, own in _variants(encodings or able, sigmas, plan.config.resolved_sigma):
        given = {setting: value for setting, value in own.items() if value is not None}
        plan = of_all.plan(picture, {**settings, **given}, recipe=recipe)
        if isinstance(plan, TilePlan):
            jobs[name] = TiledJob(picture, plan, asked.every_tile, asked.stored)
    return jobs


def compare_on(
    backend: Backend,
    picture: Picture,
    configs: dict[str, FitConfig],
    callback: Callback | None = None,
    should_stop: ShouldStop | None = None,
    trial: Trial | None = None,
) -> Comparison:
    """Train the networks that `configs` names on one picture; `auto` among the sigmas is chosen first.

    `trial` is told of the progress of that choice.
    """
    from .sigma import with_sigma

    jobs = [Job(picture, config) for config in configs.values()]
    jobs = [
        Job(picture, with_sigma(job, backend, trial)) if job.config.sigma == "auto" else job for job in jobs
    ]
    results: dict[int, FitResult] = {}
    for group in group_by_shape(jobs):
        trained = fit_together([jobs[i] for i in group], backend, callback, should_stop)
        results |= dict(zip(group, trained, strict=True))
    return Comparison(picture, {name: results[i] for i, name in enumerate(configs)})


def compare_tiles(
    backend: Backend,
    picture: Picture,
    jobs: Mapping[str, TiledJob],
    callback: Callback | None = None,
    should_stop: ShouldStop | None = None,
    on_result: Callable[[str, Result], object] | None = None,
) -> Comparison:
    """Train the tiles that `jobs` name, one after the other; those that were finished when it was to stop.

    `on_result` is told of each name and result as it is finished.
    """
    results: dict[str, Result] = {}
    for name, job in jobs.items():
        result = job.run(backend, callback, should_stop)
        if result.stopped == "interrupted":
            break
        results[name] = result
        if on_result is not None:
            on_result(name, result)
    return Comparison(picture, results)


def _sigma(result: Result) -> float | None:
    """The sigma of an encoding that has one."""
    return result.config.resolved_sigma if ENCODINGS[result.config.encoding].has_sigma else None


def _label(name: str, result: Result) -> str:
    return f"{name}, {result.config.resolved_sigma:g}" if name == AUTO else name


def _figures(result: Result) -> list[tuple[str, str]]:
    m = result.metrics
    rows = [("PSNR", m["psnr"]), ("train", m["psnr_train"]), ("held out", m["psnr_held_out"])]
    shown = rows if m["psnr_held_out"] is not None else rows[:1]
    ssim = [] if m["ssim"] is None else [("SSIM", f"{m['ssim']:.4f}")]
    return [(label, f"{value:.2f} dB") for label, value in shown] + ssim


def _points(result: Result, column: str) -> list[tuple[float, float]]:
    return [
        (float(row["step"] or 0), float(row[column] or 0)) for row in result.history if row[column] is not None
    ]
