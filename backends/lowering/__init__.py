"""Element-wise formulas, written once for arrays, as NumPy passes, Numba kernels and CUDA text.

`formulas` calls a formula with symbols and gets `expressions`; one printer for each backend turns them into
source: `numpy_passes`, `numba_text`, `cuda_text`.
"""

from .expressions import FUNCTIONS, FormulaError
from .formulas import Formula, lowered_activation, lowered_loss, lowered_rule, numbers_of

__all__ = [
    "FUNCTIONS",
    "Formula",
    "FormulaError",
    "lowered_activation",
    "lowered_loss",
    "lowered_rule",
    "numbers_of",
]
