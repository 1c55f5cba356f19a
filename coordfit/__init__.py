"""Fit a coordinate network to a picture; networks, gradients and kernels are written by hand.

    result = coordfit.fit("photo.png", encoding="gaussian", sigma=10, target_psnr=40)
    result.save("model.safetensors")
    picture = coordfit.load("model.safetensors").render(1024, 1024)

Names are imported at their first use, so that `coordfit --help` waits for no array library.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from ._version import __version__

if TYPE_CHECKING:
    from .backends import DeviceUnavailableError, available_backends, get_backend
    from .callbacks import CallbackList, CSVLogger, PythonLogger, TensorBoardLogger
    from .config import FitConfig, make_config
    from .encoders.base import Encoder, Encoding
    from .encoders.fourier import FourierEncoding
    from .errors import (
        CompressedFileError,
        ConfigError,
        CoordfitError,
        ModelFileError,
        OutputError,
        PictureError,
        SignalError,
    )
    from .gradcheck import check_gradients
    from .images import bundled_picture, load_picture, save_picture
    from .images.metrics import psnr, ssim
    from .live.server import LiveView
    from .models.model import Model
    from .report.progress import progress_bar
    from .report.table import Table
    from .tasks.compare import Comparison, compare
    from .tasks.compress import CompressionResult, compress, decompress
    from .tasks.enlarge import enlarge
    from .tasks.export import export
    from .tasks.fill_array import FilledArray, fill_array
    from .tasks.filling.kriging import KrigingResult
    from .tasks.filling.network import InpaintResult
    from .tasks.fit import fit
    from .tasks.fit_array import fit_array, fit_points
    from .tasks.fit_many import fit_many
    from .tasks.fitted_pictures import FittedPictures
    from .tasks.inpaint import inpaint
    from .tasks.load import load
    from .tasks.sweep import sweep
    from .training.result import FitResult
    from .training.state import Progress

_MODULES = {
    "backends": ("DeviceUnavailableError", "available_backends", "get_backend"),
    "callbacks": ("CSVLogger", "CallbackList", "PythonLogger", "TensorBoardLogger"),
    "config": ("FitConfig", "make_config"),
    "encoders.base": ("Encoder", "Encoding"),
    "encoders.fourier": ("FourierEncoding",),
    "errors": (
        "CompressedFileError",
        "ConfigError",
        "CoordfitError",
        "ModelFileError",
        "OutputError",
        "PictureError",
        "SignalError",
    ),
    "gradcheck": ("check_gradients",),
    "images": ("bundled_picture", "load_picture", "save_picture"),
    "images.metrics": ("psnr", "ssim"),
    "live.server": ("LiveView",),
    "models.model": ("Model",),
    "report.progress": ("progress_bar",),
    "report.table": ("Table",),
    "tasks.compare": ("Comparison", "compare"),
    "tasks.compress": ("CompressionResult", "compress", "decompress"),
    "tasks.enlarge": ("enlarge",),
    "tasks.export": ("export",),
    "tasks.fill_array": ("FilledArray", "fill_array"),
    "tasks.fit": ("fit",),
    "tasks.fit_array": ("fit_array", "fit_points"),
    "tasks.fit_many": ("fit_many",),
    "tasks.fitted_pictures": ("FittedPictures",),
    "tasks.inpaint": ("inpaint",),
    "tasks.filling.kriging": ("KrigingResult",),
    "tasks.load": ("load",),
    "tasks.filling.network": ("InpaintResult",),
    "tasks.sweep": ("sweep",),
    "training.result": ("FitResult",),
    "training.state": ("Progress",),
}
_MODULE_OF = {name: module for module, names in _MODULES.items() for name in names}

__all__ = [
    "CSVLogger",
    "CallbackList",
    "Comparison",
    "CompressedFileError",
    "CompressionResult",
    "ConfigError",
    "CoordfitError",
    "DeviceUnavailableError",
    "Encoder",
    "Encoding",
    "FilledArray",
    "FitConfig",
    "FitResult",
    "FittedPictures",
    "FourierEncoding",
    "InpaintResult",
    "KrigingResult",
    "LiveView",
    "Model",
    "ModelFileError",
    "OutputError",
    "PictureError",
    "Progress",
    "PythonLogger",
    "SignalError",
    "Table",
    "TensorBoardLogger",
    "__version__",
    "available_backends",
    "bundled_picture",
    "check_gradients",
    "compare",
    "compress",
    "decompress",
    "enlarge",
    "export",
    "fill_array",
    "fit",
    "fit_array",
    "fit_many",
    "fit_points",
    "get_backend",
    "inpaint",
    "load",
    "load_picture",
    "make_config",
    "progress_bar",
    "psnr",
    "save_picture",
    "ssim",
    "sweep",
]


def __getattr__(name: str) -> Any:
    if name not in _MODULE_OF:
        raise AttributeError(f"module 'coordfit' has no attribute {name!r}")
    module = importlib.import_module(f".{_MODULE_OF[name]}", __name__)
    value = getattr(module, name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
