"""The fused bodies of the GPU, on CuPy arrays: a file for each kind, put together by `cupy_backend`.

From the bottom up, each a class on the one before:

| file | what is in it |
|---|---|
| `shared` | cublasLt, the launcher of our kernels, buffers, a full device |
| `sums` | sums in a fixed order |
| `sixteen_bits` | activations in 16 bits; `storage` has the types and the copies of parameters |
| `products` | matrix products and their rungs |
| `layers` | layers forward and backward; `masks` has what ReLUs leave for the way back |
| `pixels` | Fourier features, rows by number |
| `losses` | the loss and its gradient |
| `optimizers` | SGD, Adam, Muon |
| `output` | the output layer and the loss in one kernel |

Beside them: `layout`, how arrays lie in memory; `lanes`, two streams at a time; `capture`, steps as graphs;
`readback`, copies that nobody waits for; `checks`, why there is no GPU.
"""
