"""The order of the gallery: first steps, what a network can learn, tasks, and programs of your own."""

from __future__ import annotations

EXAMPLES = (
    "plot_first_fit",
    "plot_spectral_bias",
    "plot_sigma",
    "plot_tangent_kernel",
    "plot_outliers",
    "plot_callback",
    "plot_inpainting",
    "plot_enlarging",
    "plot_compression",
    "plot_sound",
    "plot_volume",
    "plot_derivatives",
    "plot_ensemble",
    "plot_own_activation",
    "plot_own_encoding",
    "plot_numpy_only",
    "plot_dask_sweep",
)


def place(file_name: str) -> int:
    """Return the place of an example in the gallery."""
    return EXAMPLES.index(file_name.removesuffix(".py"))
