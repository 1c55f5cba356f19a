// The second stage of every sum over rows: the partial sums of the first stage's blocks, in a fixed order.
//
// Floating-point atomics would add in another order at every run. This stage is short and adds in double.

// out[k, j] = (accumulate ? out[k, j] : 0) + sum over parts p of partials[k, p, j], and, in the last block,
// value[k] = scale * sum over parts p of values[k, p]
//
// partials (K, parts, width), out (K, width); values (K, value_parts) or null for none, value (K,). A power of two of
// threads, at most 256.
template <typename T>
__global__ void sum_partials(
    const T* partials, int64 partials_stride, T* out, int64 out_stride, int parts, int64 width, int accumulate,
    const double* values, int value_parts, double scale, T* value
) {
    partials += blockIdx.y * partials_stride;
    out += blockIdx.y * out_stride;
    sum_columns(partials, out, parts, width, accumulate, blockIdx.x, gridDim.x);
    if (!values || blockIdx.x < gridDim.x - 1) return;
    __shared__ double sums[256];
    values += (int64)blockIdx.y * value_parts;
    double sum = 0;
    for (int p = threadIdx.x; p < value_parts; p += blockDim.x) sum += values[p];
    sums[threadIdx.x] = sum;
    for (int reach = (int)blockDim.x / 2; reach > 0; reach /= 2) {
        __syncthreads();
        if ((int)threadIdx.x < reach) sums[threadIdx.x] += sums[threadIdx.x + reach];
    }
    if (threadIdx.x == 0) value[blockIdx.y] = (T)(scale * sums[0]);
}
