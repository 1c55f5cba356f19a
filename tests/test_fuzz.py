"""Models and pictures from strangers: some hundred hostile files of each kind, checked by `fuzz.py`.

`COORDFIT_FUZZ_CASES=10000` takes so many, and cuts files at every byte instead of some.
"""

import io
import os
import random

import numpy as np
import pytest
from PIL import Image
from support import fuzz

from coordfit import ModelFileError
from coordfit.files import tensor_file, tensor_header

CASES = int(os.environ.get("COORDFIT_FUZZ_CASES", 150))
EVERY_BYTE = "COORDFIT_FUZZ_CASES" in os.environ


@pytest.fixture(scope="session")
def watch():
    return fuzz.Watch()


@pytest.fixture(scope="module", params=fuzz.TARGETS)
def fuzzer(request, watch, tmp_path_factory):
    return fuzz.Fuzzer(request.param, tmp_path_factory.mktemp(request.param), watch)


def test_hostile_files_end_in_the_documented_error(fuzzer):
    folder = fuzzer.path.parent
    for seed in range(CASES):
        try:
            fuzzer.run(seed)
        except Exception as error:
            raise AssertionError(f"seed {seed} of {fuzzer.target}: {error!r}") from error
    assert [path.name for path in folder.iterdir()] == [fuzzer.path.name]
    kinds = {kind for kind, _ in fuzzer.count.told}
    assert len(kinds) >= 3
    assert {"loaded", "refused"} <= {told for _, told in fuzzer.count.told}


def test_files_cut_anywhere_end_in_the_documented_error(fuzzer):
    for whole in fuzzer.wholes:
        for end in range(1, len(whole), 1 if EVERY_BYTE else max(1, len(whole) // 12)):
            fuzzer.judge("cut", whole[:end])


def test_a_model_cut_at_any_byte_is_refused(watch, tmp_path):
    fuzzer = fuzz.Fuzzer("models", tmp_path, watch)
    for whole in fuzzer.wholes:
        fuzzer.path.write_bytes(whole)
        for end in reversed(range(len(whole))):
            os.truncate(fuzzer.path, end)
            with pytest.raises(ModelFileError):
                tensor_file.load_tensors(fuzzer.path)


# --- the fuzzer finds what it is there for ------------------------------------------------------------------


def test_another_error_is_found(watch, tmp_path, monkeypatch):
    fuzzer = fuzz.Fuzzer("models", tmp_path, watch)
    monkeypatch.setattr(tensor_header, "_parse_type", lambda _, entry: tensor_header.DTYPES[entry["dtype"]])

    def run_all():
        for seed in range(2000):
            fuzzer.run(seed)

    with pytest.raises((KeyError, TypeError)):  # not a ModelFileError
        run_all()


def test_a_long_message_and_too_much_memory_are_found(watch, tmp_path, monkeypatch):
    fuzzer = fuzz.Fuzzer("models", tmp_path, watch)
    good, *_ = fuzzer.wholes
    with pytest.raises(AssertionError, match="printable"):
        fuzz.check_line(ModelFileError("two\nlines"))
    monkeypatch.setitem(fuzz.MOST_BYTES, "models", 1e5)
    monkeypatch.setattr(fuzzer, "use", lambda path, backend: len(bytes(200_000)))
    with pytest.raises(AssertionError, match="held"):
        fuzzer.judge("bytes", good)


def test_every_act_but_reading_is_found(watch, tmp_path):
    (tmp_path / "a").touch()
    with watch.watching():
        (tmp_path / "a").read_bytes()
    assert watch.acts == []
    with watch.watching():
        (tmp_path / "b").write_bytes(b"")
        (tmp_path / "b").rename(tmp_path / "c")
        os.close(os.open(tmp_path / "d", os.O_WRONLY | os.O_CREAT))
    assert [event for event, _ in watch.acts] == ["open", "os.rename", "open"]


def test_mutants_follow_from_their_seed(fuzzer):
    first, again = (fuzzer.mutate(fuzzer.wholes, random.Random(7)) for _ in range(2))
    assert first == again


def test_a_signed_mutant_passes_the_checksum(watch, tmp_path):
    """What only an attacker can make reaches the checks behind the checksum."""
    fuzzer = fuzz.Fuzzer("models", tmp_path, watch)
    header, body = fuzz.split(fuzzer.wholes[0])
    tensors = {
        name: np.frombuffer(body[slice(*entry["data_offsets"])], "<f4").reshape(entry["shape"])
        for name, entry in header.items()
        if name != "__metadata__"
    }
    document = fuzz.json.loads(header["__metadata__"]["coordfit"])
    fuzzer.path.write_bytes(fuzz.signed(tensors, document | {"metrics": {"psnr": 1.0}}))
    assert tensor_file.load_tensors(fuzzer.path)[1]["metrics"] == {"psnr": 1.0}


def test_the_corpus_of_pictures_has_the_usual_formats():
    formats = {Image.open(io.BytesIO(content)).format for content in fuzz.pictures()}
    assert {"PNG", "JPEG", "GIF", "TIFF", "BMP", "PPM", "ICO", "TGA"} <= formats
