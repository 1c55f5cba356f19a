"""Colours of integer latents: the same in any order of sums, near the float decoder, and hostile arrays."""

import dataclasses
from fractions import Fraction
from math import floor

import numpy as np
import pytest
from pictures import latents_of, network, whole_matrix

from coordfit.codec import Compressed, ScaledArray, decompress, encode
from coordfit.codec.pyramid.decoder_network import DecoderNetwork, decoder_shapes
from coordfit.codec.synthesis import synthesis_arrays, synthesise, synthesised_rows
from coordfit.errors import CompressedFileError
from coordfit.signals.grid import SampleGrid

SIZE, CHANNELS, STEP = (21, 26), (1, 3, 0, 2), 0.03
OWN = SampleGrid.of(*SIZE)


def rows_of(picture, grid):
    return np.concatenate([*synthesised_rows(picture, grid)])


def weights(seed=0, hidden=5, colours=3):
    rng = np.random.default_rng(seed)
    shapes = decoder_shapes(sum(CHANNELS), hidden, colours)
    return [rng.normal(size=shape) for shape in shapes], rng.uniform(0.3, 0.6, colours)


def made(bits=9, spread=2.0, colours=3, bit_depth=8):
    networks, mean = weights(colours=colours)
    arrays = synthesis_arrays(networks, STEP, mean, bits)
    latents = latents_of(*SIZE, CHANNELS, spread)
    return Compressed(*SIZE, latents, [STEP] * len(CHANNELS), network(), arrays, bit_depth)


def exact_pixel(picture, row, column, drawn=SIZE):
    """A pixel in fractions, by the formula of `docs/reference/codec_format.md`."""

    def rounded(value, bits):
        return Fraction(floor(value * 2**bits + Fraction(1, 2)), 2**bits)

    def fractions(array):
        scale = Fraction(2) ** array.exponent
        return np.array([Fraction(int(v)) for v in array.values.flat]).reshape(array.values.shape) * scale

    skip, bias, first, first_bias, last = map(fractions, picture.synthesis)
    x = []
    for i, level in enumerate(picture.latents):
        matrices = [whole_matrix(n, 1 << i, full) for n, full in zip(SIZE, drawn, strict=True)]
        if i == 0 and drawn == SIZE:
            matrices = [np.eye(n) for n in SIZE]
        rows, columns = ([Fraction(w) for w in a[at]] for a, at in zip(matrices, (row, column), strict=True))
        for channel in level:
            total = sum(
                r * c * int(channel[j, k]) for j, r in enumerate(rows) if r for k, c in enumerate(columns) if c
            )
            x.append(rounded(Fraction(total), 8))
    x = np.array(x)
    hidden = [max(Fraction(0), rounded(v, 8) + b) for v, b in zip(first @ x, first_bias, strict=True)]
    colours = [
        rounded(a, 20) + rounded(b, 20) + c for a, b, c in zip(last @ hidden, skip @ x, bias, strict=True)
    ]
    most = 2**picture.bit_depth - 1
    return [floor(min(max(c, Fraction(0)), Fraction(1)) * most + Fraction(1, 2)) for c in colours]


@pytest.mark.parametrize(("bits", "spread", "bit_depth"), [(9, 2.0, 8), (9, 2.0, 16), (15, 900.0, 8)])
def test_pixels_are_those_of_exact_fractions(bits, spread, bit_depth):
    picture = made(bits, spread, bit_depth=bit_depth)
    pixels = synthesise(picture)
    rng = np.random.default_rng(0)
    for place in [(0, 0), (20, 25), *zip(rng.integers(0, 21, 40), rng.integers(0, 26, 40), strict=True)]:
        assert pixels[place].tolist() == exact_pixel(picture, *place)


@pytest.mark.parametrize("drawn", [(47, 40), (21, 27), (13, 9)])
def test_another_size_has_the_pixels_of_exact_fractions(drawn):
    pixels = rows_of(made(15), OWN.resized(*drawn))
    for place in [(0, 0), (drawn[0] - 1, drawn[1] - 1), (5, 3), (8, 8)]:
        assert pixels[place].tolist() == exact_pixel(made(15), *place, drawn)


@pytest.mark.parametrize("grid", [OWN, OWN.resized(50, 60)])
def test_a_window_is_cut_out_of_the_whole(grid):
    window = grid.cropped(3, 5, 20, 11)
    assert np.array_equal(rows_of(made(), window), rows_of(made(), grid)[5:16, 3:23])


def test_pixels_do_not_depend_on_strips_and_bands(monkeypatch):
    whole = rows_of(made(15), OWN.resized(40, 40))
    for pixels, band in ((1, 1), (60, 1 << 22), (200, 500)):
        monkeypatch.setattr("coordfit.codec.synthesis._PIXELS", pixels)
        monkeypatch.setattr("coordfit.codec.synthesis._BAND", band)
        assert np.array_equal(rows_of(made(15), OWN.resized(40, 40)), whole)


def test_with_many_bits_it_is_the_float_decoder():
    networks, mean = weights()
    latents = [level.astype(np.float64) for level in latents_of(*SIZE, CHANNELS)]
    shapes = [level.shape for level in latents]
    colours = DecoderNetwork(shapes, SIZE, networks, networks).forward(latents) * STEP + mean[:, None, None]
    difference = synthesise(made(15)) - 255 * np.clip(colours, 0, 1).transpose(1, 2, 0)
    assert abs(difference).max() < 0.8
    assert abs(synthesise(made(6)) - 255 * np.clip(colours, 0, 1).transpose(1, 2, 0)).max() > 0.8


@pytest.mark.parametrize("colours", [1, 2, 3, 4])
def test_a_picture_has_as_many_channels_as_the_decoder(colours):
    assert synthesise(made(colours=colours)).shape == (*SIZE, colours)


def arrays_of(hidden):
    return synthesis_arrays(weights(hidden=hidden)[0], STEP, np.zeros(3), 9)


def with_array(i, values, exponent=0):
    picture = made()
    arrays = [*picture.synthesis]
    arrays[i] = ScaledArray(np.asarray(values), exponent)
    return dataclasses.replace(picture, synthesis=arrays)


HOSTILE = {
    "no decoder network": lambda: dataclasses.replace(made(), synthesis=[]),
    "impossible shapes": lambda: with_array(0, np.ones((3, 5), int)),
    "impossible weights": lambda: with_array(4, np.full((3, 5), 1 << 15), -9),
    "of impossible weights": lambda: dataclasses.replace(made(), synthesis=arrays_of(hidden=129)),
    "an impossible exponent": lambda: with_array(4, np.ones((3, 5), int), -3),
    "impossible exponent": lambda: with_array(3, np.ones(5, int), -7),
}


def test_a_picture_without_fine_levels_is_bounded_by_its_pixels():
    levels = [np.zeros((0, -(-60000 >> i), -(-60000 >> i)), int) for i in range(8)]
    arrays = synthesis_arrays([np.zeros((8, 1)), np.zeros((3, 5))], STEP, np.zeros(3), 9)
    arrays[0] = arrays[2] = ScaledArray(np.zeros((1,), int), -4)
    data = encode(Compressed(60000, 60000, levels, [STEP] * 8, network(), arrays))
    with pytest.raises(CompressedFileError, match="has 3600000000 pixels, more than the limit of 33554432"):
        decompress(data)


@pytest.mark.parametrize("reason", HOSTILE)
def test_arrays_that_are_no_decoder_are_refused(reason):
    with pytest.raises(CompressedFileError, match=f"cannot load photo.cfc: it has .*{reason}"):
        decompress(encode(HOSTILE[reason]()), "photo.cfc")
