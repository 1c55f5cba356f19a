"""What callbacks keep of a run is what its history has."""

import csv
import logging
import struct
import subprocess
import sys

import numpy as np
import pytest

import coordfit
from coordfit.errors import OutputError

SMALL = {"hidden_size": 8, "depth": 2, "num_frequencies": 8, "steps": 6, "evaluate_every": 2, "device": "numpy"}
PICTURE = np.random.default_rng(8).random((16, 12, 3))


def read(path):
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def number(text):
    return float(text) if text else None


def figures(row):
    return {name: number(value) for name, value in row.items()}


def test_a_csv_file_has_the_history(tmp_path):
    result = coordfit.fit(PICTURE, callback=coordfit.CSVLogger(tmp_path / "run.csv"), **SMALL)
    assert [figures(row) for row in read(tmp_path / "run.csv")] == result.history
    assert len(result.history) > 2


def test_networks_of_a_batch_have_rows_of_their_own(tmp_path):
    names = ["none", "basic"]
    comparison = coordfit.compare(
        PICTURE, encodings=names, callback=coordfit.CSVLogger(tmp_path / "all.csv"), **SMALL
    )
    rows = [figures(row) for row in read(tmp_path / "all.csv")]
    for name, result in comparison.results.items():
        of_one = [dict(row) for row in rows if row["network"] == 1 + names.index(name)]
        for row in of_one:
            del row["network"]
        assert of_one == result.history


def test_tiles_and_compressions_have_rows_too(tmp_path):
    coordfit.fit(PICTURE, tiles=8, steps=4, device="numpy", callback=coordfit.CSVLogger(tmp_path / "tiles.csv"))
    assert figures(read(tmp_path / "tiles.csv")[-1])["psnr"] > 0
    coordfit.compress(PICTURE, psnr=20, steps=20, callback=coordfit.CSVLogger(tmp_path / "bits.csv"))
    last = figures(read(tmp_path / "bits.csv")[-1])
    assert list(last) == ["step", "seconds", "psnr", "bits_per_pixel"]
    assert last["bits_per_pixel"] > 0


def test_a_file_that_is_there_stays_as_it_is(tmp_path):
    file = tmp_path / "run.csv"
    file.write_text("mine")
    with pytest.raises(OutputError, match=r"run\.csv"):
        coordfit.CSVLogger(file)
    assert file.read_text() == "mine"
    with pytest.raises(OutputError, match="does not exist"):
        coordfit.CSVLogger(tmp_path / "no" / "run.csv")


def scalars(file):
    """The figures of an event file of TensorBoard, by tag and step: records of a length, a sum, data, a sum."""
    event_pb2 = pytest.importorskip("tensorboardX.proto.event_pb2")
    data, found = file.read_bytes(), {}
    while data:
        (size,) = struct.unpack("<Q", data[:8])
        event = event_pb2.Event.FromString(data[12 : 12 + size])
        for value in event.summary.value:
            found[value.tag, event.step] = value.image if value.HasField("image") else value.simple_value
        data = data[16 + size :]
    return found


def test_tensorboard_has_the_history_and_the_picture(tmp_path):
    pytest.importorskip("tensorboardX")
    logger = coordfit.TensorBoardLogger(tmp_path, pictures=True)
    result = coordfit.fit(PICTURE, callback=logger, **SMALL)
    logger.close()
    [file] = tmp_path.iterdir()
    found = scalars(file)
    for row in result.history:
        for name in ("psnr", "loss", "learning_rate"):
            assert found[name, row["step"]] == pytest.approx(row[name], rel=1e-6)
    shown = found["picture", result.history[-1]["step"]]
    assert (shown.height, shown.width, shown.colorspace) == (16, 12, 3)


def test_tensorboard_without_its_package_is_told(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorboardX", None)
    with pytest.raises(OutputError, match=r"pip install 'coordfit\[tensorboard\]'"):
        coordfit.TensorBoardLogger(tmp_path)


def test_a_logger_gets_a_record_for_each_row(caplog):
    with caplog.at_level(logging.INFO, "coordfit"):
        result = coordfit.fit(PICTURE, callback=coordfit.PythonLogger(), **SMALL)
    assert [record.figures for record in caplog.records] == result.history
    assert {record.name for record in caplog.records} == {"coordfit"}
    assert f"psnr {result.history[-1]['psnr']:.4g}" in caplog.messages[-1]
    assert caplog.messages[-1].startswith("step 6: ")


def test_the_logger_is_silent_until_someone_listens():
    call = f"coordfit.fit(numpy.ones((8, 8, 3)), callback=coordfit.PythonLogger(level=50), **{SMALL})"
    code = f"import coordfit, numpy; {call}"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("", "")


def test_several_callbacks_are_all_called_and_each_may_stop_the_run():
    steps = []
    stop = coordfit.CallbackList(
        [lambda progress: progress.step >= 2, lambda progress: steps.append(progress.step)]
    )
    result = coordfit.fit(PICTURE, callback=stop, **SMALL)
    assert result.stopped == "interrupted"
    assert steps[-1] == 2
