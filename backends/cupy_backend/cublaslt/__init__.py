"""Matrix products by NVIDIA's cublasLt, with bias, ReLU and bias gradients fused into their epilogues.

Why not `cupy.matmul`: it cannot be captured into a CUDA graph, fuses nothing, copies transposed operands of
an ensemble, and gives 16-bit products no float32 result. cublasLt can all of it, and is called here through
ctypes. Device memory is integer pointers throughout, so nothing here imports an array library, and the
same text runs on a fake library in host memory.

From the bottom up: `library` (functions, errors), `descriptors` (opaque objects, attributes), `products`
and `layer_products` (what is multiplied, in row-major words), `plans` (how the library is told, and which
algorithms it offers), `autotune_cache` (which were fastest), `autotune` (what is taken, and where the library
refuses).

    planner = Planner(load(cuda_major=12))  # with the device current
    autotuner = Autotuner(planner, timer=milliseconds_of_one_run, choices=Choices(choices_file(), gpu, version))
    product = forward((rows, n_in, n_out), PRECISIONS["bfloat16"], members=K)
    pointers = Pointers(left=x, right=W, out=y, vector=b, mask=mask)
    step = autotuner.take(product, pointers, workspace, stream)
    if step.tier is not Tier.LIBRARY:
        step.run(pointers, workspace, stream)  # then what the tier leaves to separate kernels
"""

from .autotune import Autotuner, Resolved, Tier, time_candidates
from .autotune_cache import Choices, choices_file
from .layer_products import backward_input, backward_weights, forward, mask_bytes, matmul
from .library import CublasLtError, CublasLtUnavailableError, Library, load
from .plans import WORKSPACE_BYTES, Plan, Planner, RefusedError, Workspace
from .products import PRECISIONS, Epilogue, Pointers, Product, Strides, Types

__all__ = [
    "PRECISIONS",
    "WORKSPACE_BYTES",
    "Autotuner",
    "Choices",
    "CublasLtError",
    "CublasLtUnavailableError",
    "Epilogue",
    "Library",
    "Plan",
    "Planner",
    "Pointers",
    "Product",
    "RefusedError",
    "Resolved",
    "Strides",
    "Tier",
    "Types",
    "Workspace",
    "backward_input",
    "backward_weights",
    "choices_file",
    "forward",
    "load",
    "mask_bytes",
    "matmul",
    "time_candidates",
]
