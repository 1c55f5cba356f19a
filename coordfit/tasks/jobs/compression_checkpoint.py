"""Where an interrupted compression stands: a file beside the one that it is to make."""

from __future__ import annotations

import contextlib
import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...codec import Compressor
from ...errors import ConfigError, ModelFileError, OutputError
from ...files import printable
from ...files.tensor_file import load_tensors, read_metadata, save_tensors
from ...images import Picture
from ..compress import Compressing


@dataclass(frozen=True)
class CompressionCheckpoint:
    """The checkpoint of the file that a compression makes."""

    out: Path

    @property
    def path(self) -> Path:
        """The checkpoint's own file."""
        return self.out.with_name(self.out.name + ".checkpoint")

    def check_begun(self, *, resume: bool, overwrite: bool) -> None:
        """Refuse to lose a checkpoint, or to go on without one."""
        there = self.path.exists()
        if there and not (resume or overwrite):
            raise OutputError(
                f"{printable(self.path)} holds an interrupted compression: add --resume to continue it, "
                "--overwrite to begin again, or name another --out"
            )
        if resume and not there:
            raise OutputError(
                f"there is nothing to resume: {printable(self.path)} is missing; leave --resume out"
            )

    def save(self, compressor: Compressor, asked: Compressing, picture: Picture) -> None:
        """Write where a compression stands."""
        arrays, facts = compressor.state()
        own = {"kind": "compression", "asked": dataclasses.asdict(asked), "picture_digest": picture.digest}
        save_tensors(self.path, arrays, own | facts)

    def resumed(self, asked: Compressing, picture: Picture, **more: Any) -> tuple[Compressing, Compressor]:
        """Return what was asked and the compression that goes on; a new budget may be asked for.

        Raises
        ------
        ConfigError
            The picture or the target is another one.
        ModelFileError
            The checkpoint cannot be used.
        """
        try:
            facts = read_metadata(self.path)
            before, lmbda = Compressing(**facts["asked"]), float(facts["first_lmbda"])
            digest, stands = facts["picture_digest"], _stands(facts)
        except (KeyError, TypeError, ValueError, ModelFileError) as error:
            raise self._refused("it is no checkpoint of a compression") from error
        if digest != picture.digest:
            raise ConfigError("cannot resume: the compression began with another picture, size or background")
        asked = self._going_on(before, asked)
        compressor = asked.compressor(picture, first_lmbda=lmbda, **more)
        expected = {name: (a.dtype, a.shape) for name, a in compressor.state()[0].items()}

        def check(tensors: Mapping[str, Any], _: Mapping[str, Any]) -> None:
            if {name: (a.dtype, a.shape) for name, a in tensors.items()} != expected:
                raise self._refused("it is of another version of coordfit")

        arrays, _ = load_tensors(self.path, check)
        compressor.restore(arrays, stands)
        return asked, compressor

    def _going_on(self, before: Compressing, asked: Compressing) -> Compressing:
        """Return what was asked before, with a new budget if there is one."""
        for name in ("psnr", "bits_per_pixel", "lmbda"):
            if (value := getattr(asked, name)) not in (None, getattr(before, name)):
                raise ConfigError(f"cannot resume with another target ({name} {value:g}); leave it out")
        if asked.steps is None and asked.seconds is None:
            return before
        return dataclasses.replace(before, steps=asked.steps, seconds=asked.seconds)

    def _refused(self, reason: str) -> ModelFileError:
        return ModelFileError(f"cannot resume from {printable(self.path)}: {reason}; add --overwrite instead")

    def drop(self) -> None:
        """Remove the checkpoint, if there is one."""
        with contextlib.suppress(OSError):
            self.path.unlink(missing_ok=True)


def _stands(facts: Mapping[str, Any]) -> dict[str, Any]:
    """Return the facts that `Compressor.restore` takes; KeyError, TypeError or ValueError for others."""
    psnr, bits = (math.nan if value is None else float(value) for value in facts["seen"])
    numbers = {"step": int(facts["step"]), "looks": int(facts["looks"]), "seconds": float(facts["seconds"])}
    before = None if facts["before"] is None else float(facts["before"])
    return {**numbers, "before": before, "seen": (psnr, bits)}
