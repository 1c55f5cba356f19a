"""Compare drawn sheets with the pictures that they should show."""

import numpy as np
from PIL import Image

from coordfit.report.panels import absolute_error, colour_error, error_scale


def find(sheet, block):
    """Return the (row, column) corners at which `block` stands in `sheet`."""
    height, width = block.shape[:2]
    rows, columns = sheet.shape[0] - height + 1, sheet.shape[1] - width + 1
    candidates = np.argwhere((sheet[:rows, :columns] == block[0, 0]).all(-1))
    return [(y, x) for y, x in candidates if (sheet[y : y + height, x : x + width] == block).all()]


def error_picture(truth, prediction, scale=None):
    """Return the error (H, W, 3) in colours, on a scale in 8-bit levels, `error_scale` by default."""
    error = absolute_error(truth, prediction)
    return np.asarray(colour_error(Image.fromarray(error), scale or error_scale(error)))
