"""Run `coordfit info`: print the contents of a model file."""

from __future__ import annotations

from typing import Any

from ...files import printable
from ...images.metrics import bits_per_pixel
from ...models.format import model_in
from ...tasks.folders.run_folder import describe_settings
from ...tasks.load import load as load_model
from ..exit_codes import EXIT_OK
from ..options import Options
from ..streams import print_json


def run(options: Options) -> int:
    """Print picture, network, size and figures of a model."""
    file = model_in(options.model)
    model = load_model(file, device="cpu")
    size = file.stat().st_size
    picture = model.picture
    facts: dict[str, Any] = {
        "model": str(file),
        "picture": picture.name,
        "width": picture.width,
        "height": picture.height,
        "channels": picture.channels,
        "bit_depth": picture.bit_depth,
        **describe_settings(model.config),
        "layers": list(model.layer_sizes),
        **model.facts,
        "parameters": model.num_parameters,
        "dtype": model.config.dtype,
        "bytes": size,
        "bits_per_pixel": bits_per_pixel(size, picture.height, picture.width),
        "seed": model.config.seed,
    }
    if options.json:
        print_json(facts | {"config": model.config.as_dict(), "metrics": model.metrics})
        return EXIT_OK
    for name in ("psnr", "psnr_train", "psnr_held_out", "ssim", "steps", "seconds"):
        facts[name] = model.metrics.get(name)
    for name, value in facts.items():
        if value is not None:
            text = "-".join(map(str, value)) if name == "layers" else _text(value)
            print(f"{name.replace('_', ' '):<16} {printable(text)}")
    return EXIT_OK


def _text(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
