"""Say which figures of README.md follow from which record."""

from __future__ import annotations

from ..time_to_psnr.__main__ import best
from .pages import Claim
from .rows import codec_means, command, mean, one, where
from .tiles import bits_of_tiles

PAGE, COMMANDS = "README.md", "python -m bench.commands --json bench/results/commands.json"
CLAIMS = [
    Claim(
        PAGE,
        "| the default on the bundled picture | {:.1f} dB in {:.1f} s of training, at {:.0f} bits per pixel"
        " (plain {:d}, JPEG of that PSNR {:.1f}) |",
        "commands.json",
        lambda record: [
            (row := command(record, "coordfit"))["psnr"],
            row["seconds"],
            row["bits_per_pixel"],
            row["other_bits_per_pixel"]["plain"],
            row["other_bits_per_pixel"]["JPEG"],
        ],
        COMMANDS,
    ),
    Claim(
        PAGE,
        "| 40 dB at 128x128, geometric mean of four photographs | {:.2f} s; the same recipe written in PyTorch"
        " {:.2f} s; tuned Adam {:.2f} s here, {:.2f} s in PyTorch |",
        "time_to_psnr.json",
        lambda record: [
            best(record["runs"], name, 40, "seconds")
            for name in (
                "coordfit: fast (Muon)",
                "torch: fast (Muon)",
                "coordfit: Adam, cosine",
                "torch: Adam, cosine",
            )
        ],
    ),
    Claim(
        PAGE,
        "| 40 dB of a 512x512 photograph by tiles (`--recipe memorise`) | {:.2f} s, at {:.0f} bits per pixel"
        " (the plain picture has 24) |",
        "whole_pictures.json",
        lambda record: [
            (row := one(record["rows"], picture="astronaut", target=40.0))["seconds"],
            bits_of_tiles(row),
        ],
        "python -m bench.whole_pictures --target 40 --json bench/results/whole_pictures.json",
    ),
    Claim(
        PAGE,
        "every second row and column trained | {:.1f} dB; bicubic interpolation {:.1f} dB |",
        "commands.json",
        lambda record: [
            command(record, "coordfit --train-on every-second --encoding gaussian")[name]
            for name in ("psnr_held_out", "psnr_held_out_bicubic")
        ],
        COMMANDS,
    ),
    Claim(
        PAGE,
        "half of the pixels hidden, mean of four photographs | {:.2f} dB; biharmonic equations {:.2f} dB |",
        "kriging.json",
        lambda record: [
            mean(where(record["cases"], size=128, missing=0.5), name)
            for name in ("psnr_hidden", "psnr_hidden_biharmonic")
        ],
    ),
    Claim(
        PAGE,
        "mean of twelve of 768x512 | {:.2f} dB at {:.3f} bits per pixel after {:.1f} s; a first look of"
        " {:.1f} dB"
        " after {:.1f} s |",
        "default_fit.json",
        lambda record: [
            mean(record["cases"], name)
            for name in ("psnr", "bits_per_pixel", "seconds", "first_look_psnr", "first_look_seconds")
        ],
    ),
    Claim(
        PAGE,
        "| Kodak pictures compressed to 40 dB, mean of twelve | {:.3f} bits per pixel; AVIF (speed 6)"
        " {:.3f}, WebP {:.3f},"
        " JPEG {:.3f} |",
        "codec.json",
        lambda record: [
            codec_means(record, 40)[name] for name in ("coordfit", "AVIF 4:4:4", "WebP", "better JPEG")
        ],
    ),
    Claim(
        PAGE,
        "| a volume of 128^3 to 40 dB; half of 48^3 voxels hidden | {:.1f} s; {:.1f} dB in {:.1f} s, biharmonic"
        " equations {:.1f} dB in {:.1f} s |",
        "signals.json",
        lambda record: [
            one(record["cases"], case="volume")["seconds"],
            *(
                one(record["cases"], case="filling-48")[name]
                for name in ("psnr", "seconds", "psnr_biharmonic", "seconds_biharmonic")
            ),
        ],
    ),
    Claim(
        PAGE,
        "halved Kodak pictures enlarged, mean of twelve | {:.2f} dB; Lanczos {:.2f} dB, back-projected"
        " {:.2f} dB |",
        "enlarge.json",
        lambda record: [
            mean([case["methods"] | {name: case["methods"][name][0]} for case in halved], name)
            for halved in [where(record["cases"], reduction="means over 2x2 pixels")]
            for name in ("coordfit enlarge", "Lanczos", "Lanczos, back-projected")
        ],
    ),
    Claim(
        PAGE,
        "all {:d} tests of the device pass, and the recipe `fast` takes the bundled picture to {:.1f} dB"
        " in {:.2f} s"
        " of training",
        "gpu-h200.json",
        lambda record: [
            one(record["parts"]["tests"]["rows"], marker="gpu", failed=0, error=0)["passed"],
            *(
                one(record["parts"]["seconds to PSNR"]["rows"], recipe="fast", precision="float32", until=40.0)[
                    name
                ]
                for name in ("psnr", "training seconds")
            ),
        ],
    ),
]
