"""Say which figures of docs/results.md follow from which record."""

from __future__ import annotations

from ..held_out import best, gaussians, has_order
from ..peers.tables import table
from .pages import Bound, Claim, Table, Unbound
from .results_tables import (
    EVERY_SECOND,
    auto_beside_one,
    course_project,
    gains,
    held_out_pixels,
    hidden,
    larger_hidden,
    loops,
    lows,
    paper,
    peers,
    pyramid,
    renderings,
    seconds_to_psnr,
    shares_of_limit,
    sigmas,
    visits,
    within,
)
from .rows import command, one

PAGE = "docs/results.md"
COMMANDS = "python -m bench.commands --json bench/results/commands.json"
CLAIMS: list[Bound] = [
    Claim(
        PAGE,
        "| `coordfit` | {:.1f} dB, SSIM {:.3f}, after {:d} steps, {:.1f} s of training, {:.1f} s with the"
        " extra `fast`",
        "commands.json",
        lambda record: [
            *(command(record, "coordfit")[name] for name in ("psnr", "ssim", "steps")),
            command(record, "coordfit --device numpy")["seconds"],
            command(record, "coordfit")["seconds"],
        ],
        COMMANDS,
    ),
    Claim(
        PAGE,
        "| `coordfit --recipe sharp` | {:.1f} dB after {:d} steps, {:.1f} s of training with the extra"
        " `fast` |",
        "commands.json",
        lambda record: [
            command(record, "coordfit --recipe sharp")[name] for name in ("psnr", "steps", "seconds")
        ],
        COMMANDS,
    ),
    Claim(
        PAGE,
        "| `coordfit --size 32 --recipe sharp --steps 60` | {:.1f} dB, {:.2f} s of training with the"
        " extra `fast` |",
        "commands.json",
        lambda record: [
            command(record, "coordfit --size 32 --recipe sharp --steps 60")[name]
            for name in ("psnr", "seconds")
        ],
        COMMANDS,
    ),
    Claim(
        PAGE,
        "| `coordfit --tiles 8 --target-psnr 40` | {:.1f} dB, {:.2f} s of training on plain NumPy |",
        "commands.json",
        lambda record: [
            command(record, "coordfit --tiles 8 --target-psnr 40 --device numpy")[name]
            for name in ("psnr", "seconds")
        ],
        COMMANDS,
    ),
    Claim(
        PAGE,
        "| `coordfit --recipe paper --target-psnr 40 --evaluate-every 20` | {:.1f} dB after {:d}"
        " full-batch steps,"
        " {:.0f} s of training |",
        "commands.json",
        lambda record: [
            command(record, "coordfit --recipe paper --target-psnr 40 --evaluate-every 20")[name]
            for name in ("psnr", "steps", "seconds")
        ],
        COMMANDS,
    ),
    Claim(
        PAGE,
        "| `coordfit experiments` | the whole study and its report in {} min {} s; with `--quick` {:.0f} s |",
        "commands.json",
        lambda record: [
            None
            if (whole := command(record, "coordfit experiments")["seconds_in_all"]) is None
            else int(whole // 60),
            None if whole is None else round(whole % 60),
            command(record, "coordfit experiments --quick")["seconds_in_all"],
        ],
        COMMANDS,
    ),
    Claim(
        PAGE,
        "no run of the default ends below {:.1f} dB (four photographs, three sizes, {:d} runs,",
        "steadiness.json",
        lambda record: lows(record, recipe="default"),
    ),
    Claim(
        PAGE,
        "no run of `sharp` at 32x32 below {:.1f} dB ({:d} runs,",
        "steadiness.json",
        lambda record: lows(record, recipe="sharp", size=32, steps=60),
        "python -m bench.steadiness --recipe sharp --steps 60 --sizes 32 --limit 60"
        " --json bench/results/steadiness.json",
    ),
    Table(PAGE, "time_to_psnr.json", seconds_to_psnr),
    Claim(
        PAGE,
        "To 40 dB Adam takes {:.2f} times the seconds of our recipe in coordfit, and {:.2f} times in PyTorch:"
        " that is the recipe's gain. PyTorch takes {:.2f} times the seconds of coordfit with Adam, and {:.2f}"
        " times with our recipe: that is the library's.",
        "time_to_psnr.json",
        lambda record: gains(record, "seconds"),
    ),
    Claim(
        PAGE,
        "In seconds of both processors: {:.2f}, {:.2f}, {:.2f} and {:.2f}.",
        "time_to_psnr.json",
        lambda record: gains(record, "processor seconds"),
    ),
    *(
        Claim(
            PAGE,
            f"| `{name}` | {{:.2f}} | {{:.2f}} | {{}} | {{:.0f}} | {{:.2f}} |",
            "commands.json",
            lambda record, name=name, words=words: [
                (row := command(record, words))["psnr"],
                row["seconds"],
                f"{row['parameters']:,}".replace(",", " "),
                row["bits_per_pixel"],
                command(record, f"{EVERY_SECOND} {name}")["psnr_held_out"],
            ],
            COMMANDS,
        )
        for name, words in {
            "gaussian": "coordfit --device numpy",
            "grid": "coordfit --encoding grid --device numpy",
        }.items()
    ),
    Claim(
        PAGE,
        "| bicubic interpolation | | | | | {:.2f} |",
        "commands.json",
        lambda record: [command(record, f"{EVERY_SECOND} gaussian")["psnr_held_out_bicubic"]],
    ),
    Claim(
        PAGE,
        "--hidden-size 24 --depth 2` has {:.2f} dB with {} parameters, {:.2f} for each colour value;"
        " {:.2f} dB with"
        " `--output-start drawn`.",
        "commands.json",
        lambda record: [
            (row := pyramid(record, "picture"))["psnr"],
            f"{row['parameters']:,}".replace(",", " "),
            row["parameters_per_value"],
            pyramid(record, "drawn")["psnr"],
        ],
    ),
    Table(PAGE, "commands.json", held_out_pixels),
    Table(PAGE, "held_out.json", sigmas),
    Claim(
        PAGE,
        "below the best. It learns the training pixels better than the best sigma in eleven cases. In the"
        " twelfth,"
        " astronaut at 256x256, it is {:.1f} dB worse",
        "held_out.json",
        lambda record: [
            best(case)["psnr_train"] - gaussians(case)[-1]["psnr_train"]
            for case in [one(record["cases"], picture="astronaut", size=256)]
        ],
    ),
    Claim(
        PAGE,
        "Too large a sigma leaves noise between the training pixels, {:.0f} to {:.0f} dB below the best",
        "held_out.json",
        lambda record: [
            bound(
                best(case)["psnr_held_out"] - gaussians(case)[-1]["psnr_held_out"] for case in record["cases"]
            )
            for bound in (min, max)
        ],
    ),
    Claim(
        PAGE,
        "`none` < `basic` in eleven cases. For camera at 32x32 `basic` has {:.1f} dB and `none` {:.1f}: `basic`"
        " repeats itself with the longer side, and guesses the last row and column from the opposite edge."
        " Without those two they have {:.1f} and {:.1f} dB.",
        "held_out.json",
        lambda record: [
            row[figure]
            for case in [one(record["cases"], picture="camera", size=32)]
            if not has_order(case)
            for figure in ("psnr_held_out", "psnr_inside")
            for row in (case["rows"][1], case["rows"][0])
        ],
    ),
    Claim(
        PAGE,
        "`--sigma auto` is {:.1f} dB ahead of sigma 1 at 256x256. At 128x128, where 1 is nearly right for"
        " held-out"
        " pixels, it is {:.1f} dB ahead there, and {:.1f} dB ahead on training pixels.",
        "held_out.json",
        lambda record: [
            auto_beside_one(record, 256, "psnr_held_out"),
            auto_beside_one(record, 128, "psnr_held_out"),
            auto_beside_one(record, 128, "psnr_train"),
        ],
    ),
    Table(PAGE, "seed_setting.json", course_project),
    Table(PAGE, "paper.json", paper),
    Table(PAGE, "kriging.json inpainting.json", hidden),
    Table(PAGE, "kriging.json", larger_hidden),
    Claim(
        PAGE,
        "with 300 steps on half of the bundled picture, {:.0f} % of the hidden pixels are within one and"
        " {:.0f} % within"
        " two of it, where kriging has {:.0f} % and {:.0f} %.",
        "commands.json",
        lambda record: [
            None if (share := command(record, words)[name]) is None else 100 * share
            for words in (
                "coordfit inpaint --missing 0.5 --average 4 --steps 300",
                "coordfit inpaint --missing 0.5",
            )
            for name in ("within_1", "within_2")
        ],
        COMMANDS,
    ),
    Claim(
        PAGE,
        "With half of the pixels hidden {:.0f} or {:.0f} % of them are within one standard deviation that"
        " kriging tells,"
        " and {:.0f} to {:.0f} % within two; with nine tenths hidden {:.0f} to {:.0f} % and {:.0f} to"
        " {:.0f} %.",
        "kriging.json",
        lambda record: [*within(record, 0.5), *within(record, 0.9)],
    ),
    Table(PAGE, "peers.json", lambda record: table(record["results"])),
    Claim(
        PAGE,
        "On one processor the fastest of the others takes {:.2f} times as long for a step as coordfit"
        " (geometric mean), and {:.2f} times in the closest case, {};",
        "peers.json",
        lambda record: peers(record, 1),
    ),
    Claim(
        PAGE,
        "by the clock on two {:.2f} times, and {:.2f} times in the closest case, {}.",
        "peers.json",
        lambda record: peers(record, 2),
    ),
    Claim(
        PAGE,
        "Adam's reads and writes where these take longer, would take {:.0f} to {:.0f} % of the time of"
        " coordfit's steps.",
        "peers.json",
        shares_of_limit,
    ),
    Claim(
        PAGE,
        "which PyTorch draws in {:.0f} to {:.0f} % of coordfit's time,",
        "peers.json",
        renderings,
    ),
    Claim(
        PAGE,
        "coordfit {:.1f} s, PyTorch one network after the other {:.1f} s, PyTorch as batched products"
        " {:.1f} s. Medians"
        " of three rounds; PyTorch's loop took {:.2f} to {:.2f} times as long in a round",
        "sweep.json",
        lambda record: [*record["seconds"].values(), *loops(record)],
    ),
    Claim(
        PAGE,
        "A visit of a pixel costs {:.1f} microseconds up to 256x256, where the features of all pixels are kept,"
        " and {:.1f} to {:.1f} from 512x512 to 4096x4096, where each step computes them. Memory is the picture"
        " and {:.0f} to {:.0f} MiB",
        "scaling.json",
        visits,
    ),
]


UNBOUND = [
    Unbound(PAGE, "(68 and 95 % would be those of a Gaussian error.)", "arithmetic"),
    Unbound(PAGE, "It learns the training pixels better than the best sigma in eleven cases", "a count"),
]
