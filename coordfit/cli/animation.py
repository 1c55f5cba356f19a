"""`--animate FILE`: frames gathered while networks are trained."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ..report.animation import Animation, check_suffix


class AnimationCallback:
    """A callback that adds a frame at each evaluation.

    Parameters
    ----------
    path : Path
        A `.webp`, `.png` (APNG) or `.gif`; ConfigError for another suffix.
    names : sequence of str
        Titles of the networks, side by side.
    """

    def __init__(self, path: Path, names: list[str]) -> None:
        check_suffix(path)
        self.path, self.animation = path, Animation(names)

    def __call__(self, progress: Any) -> None:
        """Add a frame of a `Progress`, where all networks are in one batch."""
        members = progress.members
        if len(members) != len(self.animation.titles):
            return
        captions = [f"{member.history[-1]['psnr']:.2f} dB" for member in members]
        self.add([member.model.render() for member in members], progress.step, captions)

    def add(self, pictures: list[Any], step: int, captions: list[str]) -> None:
        """One frame: a picture for each title; below each its caption with the step, or all below one."""
        below = captions if len(pictures) == len(captions) else [", ".join(captions)]
        self.animation.add(pictures, [f"step {step:,d}: {caption}" for caption in below])

    def save(self) -> None:
        """Write the film."""
        self.animation.save(self.path)
