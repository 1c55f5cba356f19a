"""Encode frames as H.264 in an MP4 that browsers play, by PyAV: the optional extra `video`."""

from __future__ import annotations

import io
from collections.abc import Iterable
from fractions import Fraction
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ..errors import ConfigError, OutputError

if TYPE_CHECKING:
    from av.container import OutputContainer
    from av.video.stream import VideoStream

_ENCODER: Final = "libx264"
_QUALITY = {"crf": "16", "preset": "medium"}
_BT709, _LIMITED_RANGE = 1, 1  # numbers of ITU-T H.273 and of FFmpeg, for colours of high-definition video
# The room that is left in front for the index, so that a browser plays before it has the whole file. Entries of
# a frame take at most 32 bytes.
_INDEX_BYTES, _INDEX_BYTES_PER_FRAME = 8192, 64


def check_encoder() -> None:
    """Raise ConfigError, with the cure, unless PyAV is there and encodes H.264."""
    others = "or name a .webp, .png or .gif"
    try:
        import av  # optional and slow
    except ImportError as error:
        raise ConfigError(f"an .mp4 needs PyAV ({error}): pip install 'coordfit[video]', {others}") from error
    if _ENCODER not in av.codecs_available:
        raise ConfigError(
            f"this PyAV encodes no H.264 ({_ENCODER}): pip install --force-reinstall av, {others}"
        )


def mp4_bytes(frames: Iterable[Image.Image], count: int, rate: Fraction) -> bytes:
    """Return `count` frames, one or more RGB pictures of one size, as the content of an MP4.

    `rate` is in frames per second. A side that is odd gets its last pixels twice, since colours are stored for
    blocks of 2x2 pixels. OutputError if the encoder refuses the frames.
    """
    import av  # optional and slow

    content = io.BytesIO()
    options = {"moov_size": str(_INDEX_BYTES + _INDEX_BYTES_PER_FRAME * count)}
    try:
        with av.open(content, "w", format="mp4", options=options) as file:
            stream: VideoStream | None = None
            for number, picture in enumerate(frames):
                pixels = _with_even_sides(np.asarray(picture))
                stream = stream or _stream(file, pixels, rate)
                # Means of 2x2 pixels: other filters spread colours beyond them.
                frame = av.VideoFrame.from_ndarray(pixels, format="rgb24").reformat(
                    format="yuv420p", dst_colorspace="ITU709", interpolation="AREA"
                )
                frame.pts = number
                file.mux(stream.encode(frame))
            if stream is not None:
                file.mux(stream.encode())
    except av.FFmpegError as error:
        raise OutputError(f"the encoder of H.264 ended with an error: {error}") from error
    return content.getvalue()


def _stream(file: OutputContainer, pixels: NDArray[np.uint8], rate: Fraction) -> VideoStream:
    """Return the stream of a new file for frames of this size."""
    stream = file.add_stream(_ENCODER, rate=rate, options=_QUALITY)
    stream.height, stream.width = pixels.shape[:2]
    stream.pix_fmt = "yuv420p"
    codec = stream.codec_context
    codec.colorspace = codec.color_primaries = codec.color_trc = _BT709
    codec.color_range = _LIMITED_RANGE
    return stream


def _with_even_sides(pixels: NDArray[Any]) -> NDArray[Any]:
    height, width = pixels.shape[:2]
    return np.pad(pixels, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")
