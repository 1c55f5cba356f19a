"""Read a file of an array, with what it says of its axes: one reader for each kind of file."""

from __future__ import annotations

import dataclasses
import re
import wave
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from ..errors import PictureError, SignalError
from ..files import FilePath, printable
from ..images import load_picture
from ..images.collecting import SUFFIXES
from ..images.formats.tiff import read_samples
from ..signals.arrays import ArraySignal, AxisNumbers, ValueRange, array_signal

MOST_VALUES = 2**31
"""A larger array is refused before it is read."""
_TIFF = (".tif", ".tiff")
_MOST_OF_A_PICTURE = 4  # channels
_SOUNDS = (".wav", ".flac", ".ogg", ".aiff", ".aif")
# What tifffile calls an axis, by our names; its others count pages, and are taken for depth.
_TIFF_AXES = {"T": "t", "Z": "z", "Y": "y", "X": "x", "S": "c", "C": "c"}


@dataclass(frozen=True)
class Contents:
    """An array from a file, and what the file says of it."""

    values: NDArray[Any]
    axes: str | Sequence[str] | None = None
    spacing: AxisNumbers = 1.0
    notes: tuple[str, ...] = field(default=())


@dataclass(frozen=True)
class ArrayOptions:
    """How a file is read as an array; see `read_signal`. All are None for what the file says."""

    axes: tuple[str, ...] | None = None
    key: str | None = None
    spacing: tuple[float, ...] | None = None
    value_range: str | tuple[float, float] | None = None

    @classmethod
    def of_document(cls, document: object) -> Self:
        """Return the options that `config.json` has; TypeError or ValueError for others."""
        if not isinstance(document, dict) or set(document) != {spec.name for spec in dataclasses.fields(cls)}:
            raise TypeError("no options of an array")
        settings: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in document.items()}
        made = cls(**settings)
        words, numbers = (made.axes or (), made.key or ""), (*(made.spacing or ()), *_limits(made.value_range))
        if not all(isinstance(word, str) for word in (*words[0], words[1])):
            raise TypeError("names are words")
        if not all(isinstance(number, int | float) for number in numbers):
            raise TypeError("numbers are missing")
        return made

    def read(self, path: FilePath) -> ArraySignal:
        """Return the array of a file; SignalError if it cannot be read so."""
        spacing = self.spacing[0] if self.spacing is not None and len(self.spacing) == 1 else self.spacing
        return read_signal(
            path, self.axes, key=self.key, spacing=spacing, value_range=self.value_range or "array"
        )


def _limits(value_range: object) -> tuple[Any, ...]:
    return value_range if isinstance(value_range, tuple) else ()


def is_array_file(path: FilePath) -> bool:
    """Whether a file is read as an array without being told so."""
    return Path(path).suffix.lower() in (".npy", ".npz", ".exr", *_SOUNDS)


def deep_picture(path: FilePath, max_pixels: int, refused: PictureError | None = None) -> ArraySignal | None:
    """Return a TIFF that is no picture of levels as an array with y and x; None if it may be a picture.

    These are files of more than four channels, and those that are `refused` as a picture for the range or the
    type of their numbers.
    """
    file = Path(path)
    if file.suffix.lower() not in _TIFF or not file.is_file():
        return None
    try:
        values = read_samples(file, max_pixels, _MOST_OF_A_PICTURE + 1 if refused is None else 1)
    except Exception:  # whatever is wrong with it is told by what reads pictures
        return None
    signal = array_signal(values if values.shape[2] > 1 else values[..., 0], "yxc"[: 2 + (values.shape[2] > 1)])
    signal = dataclasses.replace(signal, name=file.name)
    low, high = signal.frame.low[0], signal.frame.high[0]
    note = f"no picture of levels: read as an array of {signal.frame.dtype} from {low:g} to {high:g}"
    return dataclasses.replace(signal, notes=(note, *signal.notes))


def read_signal(
    path: FilePath,
    axes: str | Sequence[str] | None = None,
    *,
    key: str | None = None,
    spacing: AxisNumbers | None = None,
    origin: AxisNumbers = 0.0,
    value_range: ValueRange = "array",
) -> ArraySignal:
    """Read an array from a file, or a folder of frames.

    Parameters
    ----------
    path : path
        `.npy`, `.npz`, `.wav` and other sounds, `.tif` with any number of pages and channels, `.exr`, or a
        folder of pictures of one size, in the order of their names.
    axes, spacing, origin, value_range
        As `coordfit.fit_array` takes them; by default what the file says.
    key : str, optional
        The name of an array of an `.npz`, which has several.

    Raises
    ------
    SignalError
        The file cannot be read as an array, or the others do not fit it.
    """
    file = Path(path)
    with _one_error(file):
        contents = _contents(file, key)
    signal = array_signal(
        contents.values,
        contents.axes if axes is None else axes,
        spacing=contents.spacing if spacing is None else spacing,
        origin=origin,
        value_range=value_range,
        name=file.name,
    )
    return dataclasses.replace(signal, notes=(*contents.notes, *signal.notes))


def _contents(file: Path, key: str | None) -> Contents:
    suffix = file.suffix.lower()
    if key is not None and suffix != ".npz":
        raise SignalError(f"key names an array of an .npz, and {printable(file)} is none")
    if file.is_dir():
        return _frames(file)
    if not file.exists():
        raise SignalError(f"there is no file {printable(file)}: check the name and the folder")
    if suffix == ".npz":
        return Contents(_of_archive(file, key))
    readers: dict[str, Callable[[Path], Contents]] = {".npy": _numpy, ".exr": _openexr}
    readers |= dict.fromkeys(_TIFF, _tiff) | dict.fromkeys(_SOUNDS, _sound)
    if suffix in readers:
        return readers[suffix](file)
    picture = load_picture(file)
    return Contents(picture.levels, ("y", "x", "c"), notes=picture.notes)


@contextmanager
def _one_error(file: Path) -> Iterator[None]:
    """Turn everything that a reader raises into one `SignalError`."""
    try:
        yield
    except (SignalError, MemoryError):
        raise
    except Exception as error:
        detail = " ".join(str(error).split())[:200] or type(error).__name__
        raise SignalError(f"{printable(file)} cannot be read as an array ({detail})") from error


def _numpy(file: Path) -> Contents:
    values = np.load(file, mmap_mode="r", allow_pickle=False)
    _check_size(values.shape, file)
    return Contents(values)


def _of_archive(file: Path, key: str | None) -> NDArray[Any]:
    with np.load(file, allow_pickle=False) as archive:
        names = archive.files
        if key is None and len(names) != 1:
            raise SignalError(
                f"{printable(file)} has the arrays {', '.join(names) or 'none'}; name one of them"
            )
        if key is not None and key not in names:
            raise SignalError(f"{printable(file)} has no array {key!r}; it has {', '.join(names)}")
        name = key or names[0]
        with archive.zip.open(f"{name}.npy") as member:
            old = np.lib.format.read_magic(member) == (1, 0)
            read_header = np.lib.format.read_array_header_1_0 if old else np.lib.format.read_array_header_2_0
            _check_size(read_header(member)[0], file)
        return np.asarray(archive[name])


def _sound(file: Path) -> Contents:
    """Read a sound: PCM in a WAV by Python itself, the rest by soundfile, which is optional."""
    if file.suffix.lower() == ".wav":
        try:
            with wave.open(str(file), "rb") as sound:
                channels, width, rate = sound.getnchannels(), sound.getsampwidth(), sound.getframerate()
                _check_size((sound.getnframes(), channels), file)
                data = sound.readframes(sound.getnframes())
        except wave.Error as error:
            if "unknown format" not in str(error):
                raise
        else:
            return Contents(_pcm(data, width).reshape(-1, channels), ("t", "c"), 1.0 / rate)
    try:
        import soundfile  # optional
    except ImportError:
        raise SignalError(
            f"{printable(file)} is no WAV of whole numbers, and is read by soundfile: pip install soundfile"
        ) from None
    about = soundfile.info(file)
    _check_size((about.frames, about.channels), file)
    values, rate = soundfile.read(file, always_2d=True)
    return Contents(values.astype(np.float32), ("t", "c"), 1.0 / rate)


def _pcm(data: bytes, width: int) -> NDArray[Any]:
    """Return samples of 1 to 4 bytes; those of 1 are unsigned, and of 3 become int32."""
    if width == 3:
        padded = np.zeros((len(data) // 3, 4), np.uint8)
        padded[:, 1:] = np.frombuffer(data, np.uint8)[: 3 * len(padded)].reshape(-1, 3)
        return padded.view("<i4")[:, 0] >> 8
    kind = {1: "u1", 2: "<i2", 4: "<i4"}[width]
    return np.frombuffer(data, kind).astype(np.dtype(kind).newbyteorder("="))


def _tiff(file: Path) -> Contents:
    """Read all pages of the first series of a TIFF."""
    from tifffile import TiffFile

    with TiffFile(file) as tiff:
        series = tiff.series[0]
        _check_size(series.shape, file)
        notes = (f"the first of {len(tiff.series)} series",) if len(tiff.series) > 1 else ()
        values, names = np.asarray(series.asarray()), [_TIFF_AXES.get(axis, "z") for axis in series.axes]
    kept = [k for k, side in enumerate(values.shape) if side > 1 or len(values.shape) == 1]
    values, names = values.reshape([values.shape[k] for k in kept]), [names[k] for k in kept]
    axes = names if len(set(names)) == len(names) else None
    return Contents(values, axes, notes=notes)


def _openexr(file: Path) -> Contents:
    """Read the channels of an OpenEXR picture, in their usual order."""
    try:
        import OpenEXR  # optional
    except ImportError:
        raise SignalError(f"{printable(file)} is read by OpenEXR: pip install 'coordfit[exr]'") from None
    with OpenEXR.File(str(file), header_only=True) as picture:
        header = picture.header()  # emptied as the file is closed
        (left, top), (right, bottom) = header["dataWindow"]
        _check_size((int(bottom) - int(top) + 1, int(right) - int(left) + 1, len(header["channels"])), file)
    with OpenEXR.File(str(file), separate_channels=True) as picture:
        channels = picture.channels()
        order = sorted(channels, key=lambda name: ("RGBAYZ".find(name[-1]) % 7, name))
        return Contents(np.stack([channels[name].pixels for name in order], axis=-1), ("y", "x", "c"))


def _frames(folder: Path) -> Contents:
    """Read the pictures of a folder as frames, in the order of the numbers in their names."""
    files = [
        file for file in folder.iterdir() if file.suffix.lower() in SUFFIXES and not file.name.startswith(".")
    ]
    if not files:
        raise SignalError(f"the folder {printable(folder)} has no pictures")
    files.sort(
        key=lambda file: [int(part) if part.isdigit() else part for part in re.split(r"(\d+)", file.name)]
    )
    frames = []
    for file in files:
        frames.append(load_picture(file).levels)
        if (frames[-1].shape, frames[-1].dtype) != (frames[0].shape, frames[0].dtype):
            raise SignalError(
                f"frames must be alike: {printable(file)} is {frames[-1].dtype} {frames[-1].shape}, and "
                f"{printable(files[0])} {frames[0].dtype} {frames[0].shape}"
            )
        _check_size((len(files), *frames[0].shape), folder)
    return Contents(np.stack(frames), ("t", "y", "x", "c"))


def _check_size(shape: Sequence[int], file: Path) -> None:
    count = int(np.prod([float(side) for side in shape]))
    if count > MOST_VALUES:
        raise SignalError(f"{printable(file)} has {count} values, more than {MOST_VALUES}: take a part of it")
