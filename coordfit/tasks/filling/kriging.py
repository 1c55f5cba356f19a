"""Fill hidden pixels by kriging, without training, and tell how far each may be off."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ...backends import get_backend
from ...images import Picture
from ...images.masks import Mask, MaskedPicture
from ...images.metrics import shares_within
from ...kriging import fill_hidden
from ...report.notebook import html_of
from .figures import Pixels, filling_figures, sheet

if TYPE_CHECKING:
    from PIL import Image

Callback = Callable[[float], object]
"""Called with the share of the work that is done; the filling ends without a result if it returns True."""


@dataclass(frozen=True, repr=False)
class KrigingResult:
    """A picture with its hidden pixels filled by kriging.

    Attributes
    ----------
    filled : array (H, W, C)
        In [0, 1]; known pixels as they are.
    deviation : array (H, W)
        The standard deviation of a channel, as the process estimates it; 0 for known pixels.
    metrics : dict
        Those of an `InpaintResult` that need no network, `seconds`, `deviation_mean` and `deviation_largest`,
        and with a truth `within_1` and `within_2`: the shares of hidden pixels with an error of up to one and
        two deviations.
    """

    masked: MaskedPicture
    filled: Pixels
    deviation: NDArray[np.float32]
    metrics: dict[str, Any]

    @property
    def picture(self) -> Picture:
        """Return the picture with its hidden pixels as they were given."""
        return self.masked.picture

    @property
    def mask(self) -> Mask:
        """Return the mask (H, W): True is known, False is hidden."""
        return self.masked.known

    def __repr__(self) -> str:
        return f"<KrigingResult of {self.picture!r}; {self.masked.hiding}>"

    def _repr_png_(self) -> bytes | None:
        sheet: Any = self.comparison()
        found: bytes | None = sheet._repr_png_()
        return found

    def _repr_html_(self) -> str:
        """Return the figures and the comparison for notebooks."""
        m = self.metrics
        rows = [("hidden pixels", f"{m['hidden_pixels']:,d}"), ("seconds", f"{m['seconds']:.2f}")]
        if m["psnr_hidden"] is not None:
            rows.insert(0, ("PSNR of hidden pixels", f"{m['psnr_hidden']:.2f} dB"))
        rows.append(("deviation", f"{255 * m['deviation_mean']:.1f} of 255 in the mean"))
        return html_of(f"{self.picture.name}, filled by kriging; {self.masked.hiding}", rows, self._repr_png_())

    def comparison(self) -> Image.Image:
        """Draw truth, mask, filled and the error of hidden pixels; damaged, mask and filled without a truth."""
        own = self.picture
        return sheet(self.masked, self.filled, f"{own.name}, {own.width}x{own.height}: kriging", self.metrics)

    @functools.cached_property
    def deviation_picture(self) -> NDArray[np.float32]:
        """Return the deviation (H, W, 1) as a grey picture: black 0, white the largest."""
        return (self.deviation / max(float(self.deviation.max()), 1e-9))[:, :, None]


def fill_by_kriging(
    masked: MaskedPicture, threads: int | None = None, callback: Callback | None = None
) -> KrigingResult | None:
    """Fill the hidden pixels of a picture; None if the callback ended it."""
    began = time.perf_counter()
    backend = get_backend("numpy", threads=threads)
    count = getattr(backend, "threads", 1)
    with backend.activate():  # one thread of the BLAS for each of ours
        filling = fill_hidden(masked.picture.pixels, masked.known, threads=count, callback=callback)
    if filling is None:
        return None
    seconds = time.perf_counter() - began
    figures = {"method": "kriging", **filling_figures(masked, filling.colours), "seconds": seconds}
    of_hidden = filling.deviation[~masked.known]
    figures["deviation_mean"] = float(of_hidden.mean()) if of_hidden.size else 0.0
    figures["deviation_largest"] = float(filling.deviation.max())
    if masked.has_truth:
        figures |= shares_within(filling.colours, masked.picture.pixels, filling.deviation, ~masked.known)
    return KrigingResult(masked, filling.colours, filling.deviation, figures)
