"""Fit a coordinate network to a picture, with every line of its mathematics in the open.

    result = coordfit.fit("photo.png", encoding="gaussian", sigma=10, target_psnr=40)
    result.save("model.safetensors")
    picture = coordfit.load("model.safetensors").render(1024, 1024)

Names are imported when they are first used, so that `coordfit --help` waits for no array library.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from ._version import __version__

if TYPE_CHECKING:
    from ._backends import DeviceUnavailableError, available_backends, get_backend
    from .comparison import Comparison, compare
    from .config import FitConfig, make_config
    from .errors import ConfigError, CoordfitError, ModelFileError, OutputError, PictureError
    from .gradcheck import check_gradients
    from .images import bundled_picture, load_picture, save_picture
    from .inpainting import InpaintResult, inpaint
    from .metrics import psnr, ssim
    from .model import Model
    from .model_file import load_model as load
    from .result import FitResult
    from .sweeps import sweep
    from .table import Table
    from .training import Progress, fit

_HOMES = {
    "_backends": ("DeviceUnavailableError", "available_backends", "get_backend"),
    "comparison": ("Comparison", "compare"),
    "config": ("FitConfig", "make_config"),
    "errors": ("ConfigError", "CoordfitError", "ModelFileError", "OutputError", "PictureError"),
    "gradcheck": ("check_gradients",),
    "inpainting": ("InpaintResult", "inpaint"),
    "images": ("bundled_picture", "load_picture", "save_picture"),
    "metrics": ("psnr", "ssim"),
    "model": ("Model",),
    "model_file": ("load",),
    "result": ("FitResult",),
    "sweeps": ("sweep",),
    "table": ("Table",),
    "training": ("Progress", "fit"),
}
_HOME_OF = {name: module for module, names in _HOMES.items() for name in names}
_OTHER_NAMES = {"load": "load_model"}

__all__ = [
    "Comparison",
    "ConfigError",
    "CoordfitError",
    "DeviceUnavailableError",
    "FitConfig",
    "FitResult",
    "InpaintResult",
    "Model",
    "ModelFileError",
    "OutputError",
    "PictureError",
    "Progress",
    "Table",
    "__version__",
    "available_backends",
    "bundled_picture",
    "check_gradients",
    "compare",
    "fit",
    "get_backend",
    "inpaint",
    "load",
    "load_picture",
    "make_config",
    "psnr",
    "save_picture",
    "ssim",
    "sweep",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME_OF:
        raise AttributeError(f"module 'coordfit' has no attribute {name!r}")
    module = importlib.import_module(f".{_HOME_OF[name]}", __name__)
    value = getattr(module, _OTHER_NAMES.get(name, name))
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
