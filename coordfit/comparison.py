"""Encodings side by side: the same network on none, basic, positional and Gaussian features, as one batch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ._backends import Backend, get_backend
from .config import FitConfig, make_config
from .encoders import ENCODINGS
from .ensemble import Callback, Job, ShouldStop, fit_together, group_by_shape
from .images import Picture, load_picture
from .result import FitResult
from .table import Table

if TYPE_CHECKING:
    from PIL import Image

AUTO = "gaussian auto"
"""The name of the network whose sigma is chosen; the table and the picture tell the number."""
_FIGURES = ("psnr", "psnr_train", "psnr_held_out", "ssim", "steps", "seconds", "parameters")


@dataclass(frozen=True)
class Comparison:
    """What several encodings made of one picture: a result for each by name, in the order asked for."""

    picture: Picture
    results: dict[str, FitResult]

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
        from .report.side_by_side import side_by_side

        panels = [(_label(name, r), r.reconstruction, _figures(r)) for name, r in self.results.items()]
        title = f"{self.picture.name}, {self.picture.width}x{self.picture.height}"
        return side_by_side(self.picture.pixels, panels, title=title)

    def save_curves(self, path: Any) -> None:
        """PSNR over steps as an SVG: training pixels, and held-out ones dashed where there are any."""
        from .report.lines import save_lines

        train = {name: _points(result, "psnr_train") for name, result in self.results.items()}
        held_out = {name: _points(result, "psnr_held_out") for name, result in self.results.items()}
        dashed = {name: points for name, points in held_out.items() if points}
        save_lines(path, train, dashed=dashed, title="PSNR while training", x_label="step", y_label="PSNR / dB")

    def _repr_png_(self) -> bytes:
        """The picture of all, where a notebook shows the comparison."""
        import io

        buffer = io.BytesIO()
        self.picture_of_all().save(buffer, format="PNG")
        return buffer.getvalue()


def compare(
    image: Any,
    *,
    encodings: Sequence[str] = ENCODINGS,
    sigmas: Sequence[float | str] | None = None,
    device: str = "auto",
    threads: int | None = None,
    fused: str = "auto",
    precision: str = "float32",
    recipe: str | None = None,
    callback: Callback | None = None,
    **options: Any,
) -> Comparison:
    """Fit the same network with several encodings, together as one batch.

    Parameters
    ----------
    image : picture
        As `coordfit.fit` takes it.
    encodings : sequence of str
        Of `none`, `basic`, `positional`, `gaussian`.
    sigmas : sequence of float, optional
        For `gaussian`: one network each; too small, right and too large by default. `auto` chooses one.
    **options
        Fields of `FitConfig`, the same for all.
    """
    base = make_config(options, recipe=recipe)
    picture = load_picture(image, size=base.size, background=base.background)
    backend = get_backend(device, fused=fused, threads=threads, precision=precision)
    return compare_on(backend, picture, configs_for(base, encodings, sigmas), callback)


def configs_for(
    base: FitConfig, encodings: Sequence[str], sigmas: Sequence[float | str] | None
) -> dict[str, FitConfig]:
    """Settings by name: each encoding once, `gaussian` once for each sigma."""
    found: dict[str, FitConfig] = {}
    for encoding in encodings:
        config = base.replace(encoding=encoding)
        if encoding != "gaussian":
            found[encoding] = config.replace(sigma=None)
            continue
        right = config.resolved_sigma
        for sigma in sigmas or (right / 5.0, right, right * 5.0):
            named = sigma if isinstance(sigma, str) else f"{sigma:g}"
            found[f"gaussian {named}"] = config.replace(sigma=sigma)
    return found


def compare_on(
    backend: Backend,
    picture: Picture,
    configs: dict[str, FitConfig],
    callback: Callback | None = None,
    should_stop: ShouldStop | None = None,
) -> Comparison:
    """Train the networks that `configs` names on one picture; `auto` among the sigmas is chosen first."""
    from .sigma import with_sigma

    jobs = [Job(picture, config) for config in configs.values()]
    jobs = [Job(picture, with_sigma(job, backend)) if job.config.sigma == "auto" else job for job in jobs]
    results: dict[int, FitResult] = {}
    for group in group_by_shape(jobs):
        trained = fit_together([jobs[i] for i in group], backend, callback, should_stop)
        results |= dict(zip(group, trained, strict=True))
    return Comparison(picture, {name: results[i] for i, name in enumerate(configs)})


def _sigma(result: FitResult) -> float | None:
    """The sigma of an encoding that has one."""
    return result.config.resolved_sigma if result.config.encoding in ("positional", "gaussian") else None


def _label(name: str, result: FitResult) -> str:
    return f"{name}, {result.config.resolved_sigma:g}" if name == AUTO else name


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
