// The second stage of every sum over rows: the partial sums of the first stage's blocks, in a fixed order.
//
// Floating-point atomics would add in another order at every run. This stage is short and adds in double.

// out[k, j] = (accumulate ? out[k, j] : 0) + sum over parts p of partials[k, p, j]
//
// partials (K, parts, width), out (K, width). Warps divide the parts, lanes are columns; at most 256 threads.
template <typename T>
__global__ void sum_partials(
    const T* partials, int64 partials_stride, T* out, int64 out_stride, int parts, int64 width, int accumulate
) {
    __shared__ double sums[8][32];
    partials += blockIdx.y * partials_stride;
    out += blockIdx.y * out_stride;
    const int lane = threadIdx.x % 32, share = threadIdx.x / 32, shares = blockDim.x / 32;
    for (int64 first = (int64)blockIdx.x * 32; first < width; first += (int64)gridDim.x * 32) {
        const int64 j = first + lane;
        double sum = 0;
        if (j < width) {
            for (int p = share; p < parts; p += shares) sum += partials[p * width + j];
        }
        sums[share][lane] = sum;
        __syncthreads();
        if (share == 0 && j < width) {
            double total = accumulate ? (double)out[j] : 0.0;
            for (int s = 0; s < shares; s++) total += sums[s][lane];
            out[j] = (T)total;
        }
        __syncthreads();
    }
}

// history[k, t] = (accumulate ? history[k, t] : 0) + scale * sum over parts p of partials[k, p], the loss of step t
//
// partials (K, parts) in double, history (K, length). t is (step[0] + step_offset) modulo length, or 0 if step is
// null. One block for each member: a power of two of threads, at most 256.
template <typename O>
__global__ void sum_values(
    const double* partials, int64 partials_stride, int parts, double scale, O* history, int64 history_stride,
    int64 length, const int64* step, int64 step_offset, int accumulate
) {
    __shared__ double sums[256];
    partials += blockIdx.y * partials_stride;
    double sum = 0;
    for (int p = threadIdx.x; p < parts; p += blockDim.x) sum += partials[p];
    sums[threadIdx.x] = sum;
    for (int reach = (int)blockDim.x / 2; reach > 0; reach /= 2) {
        __syncthreads();
        if ((int)threadIdx.x < reach) sums[threadIdx.x] += sums[threadIdx.x + reach];
    }
    if (threadIdx.x == 0) {
        const int64 t = step ? (step[0] + step_offset) % length : 0;
        O& place = history[blockIdx.y * history_stride + t];
        place = (O)((accumulate ? (double)place : 0.0) + scale * sums[0]);
    }
}
