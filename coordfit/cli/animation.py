"""Collect the frames of `--animate FILE` while networks are trained."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Self

import numpy as np

from ..images.animated import check_suffix
from ..report.animation import Animation
from .options import Options


class AnimationCallback:
    """A callback that adds a frame at each evaluation.

    Parameters
    ----------
    path : Path
        A `.webp`, `.png` (APNG), `.gif` or `.mp4`; ConfigError if it cannot be written here.
    names : sequence of str
        Titles of the networks, side by side.
    """

    def __init__(self, path: Path, names: list[str]) -> None:
        check_suffix(path)
        self.path, self.animation = path, Animation(names)
        self._latest: dict[str, tuple[Any, str]] = {}

    @classmethod
    def of_one(cls, options: Options) -> Self | None:
        """Return the callback of `--animate` for one network; None without the option."""
        return (
            None if options.animate is None else cls(options.animate, [Path(options.image or "coordfit").stem])
        )

    def __call__(self, progress: Any, names: list[str]) -> None:
        """Add a frame with the networks of these names and the latest frames of the others.

        Networks of a later batch are black until it begins.
        """
        for name, member in zip(names, progress.members, strict=True):
            caption = f"step {progress.step:,d}: {member.history[-1]['psnr']:.2f} dB"
            self._latest[name] = member.model.render(), caption
        blank = np.zeros_like(self._latest[names[0]][0]), ""
        shown = [self._latest.get(name, blank) for name in self.animation.titles]
        self.animation.add([picture for picture, _ in shown], [caption for _, caption in shown])

    def add(self, pictures: list[Any], step: int, captions: list[str]) -> None:
        """Add one frame: a picture for each title, with a caption each or all captions in one line."""
        below = captions if len(pictures) == len(captions) else [", ".join(captions)]
        self.animation.add(pictures, [f"step {step:,d}: {caption}" for caption in below])

    def save(self) -> None:
        """Write the animation."""
        self.animation.save(self.path)
