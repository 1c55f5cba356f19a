"""Matrix products by NVIDIA's cublasLt, with bias, ReLU and bias gradients fused into their epilogues.

Unlike `cupy.matmul`, cublasLt can be captured into a CUDA graph, fuses epilogues, copies no transposed operands
of an ensemble, and gives float32 results of 16-bit operands. ctypes calls it here. Device memory is an integer
pointer throughout, so the same code runs on a fake library in host memory.

From the bottom up: `library` (functions, errors), `descriptors` (opaque objects, attributes), `products` and
`layer_products` (row-major products), `plans` (the library's algorithms for a product, and runs),
`autotune_cache` (the fastest ones on disk), `autotune` (the choice, and fallbacks), `survey` (refusals).

    planner = Planner(load(cuda_major=12))  # with the device current
    autotuner = Autotuner(planner, timer=milliseconds_of_one_run, choices=Choices(choices_file(), gpu, version))
    product = forward((rows, n_in, n_out), PRECISIONS["bfloat16"], members=K)
    pointers = Pointers(left=x, right=W, out=y, vector=b)
    step = autotuner.resolve(product, pointers, workspace, stream)
    if step.tier is not Tier.LIBRARY:
        step.run(pointers, workspace, stream)  # on PLAIN, separate kernels follow
"""
