// The output layer of C <= 4 channels, too narrow for the matrix products of a library.
//
// blockIdx.y is the member k; a stride counts the elements between members, 0 if they share an array.

// Returns one row of h W, computed by one warp: channel c in lane c, nothing useful in the other lanes.
template <typename T, int C>
__device__ inline wide<T> product_of_row(const T* row, const wide<T>* W, int hidden) {
    const int lane = threadIdx.x % 32;
    wide<T> sums[C] = {};
    for (int j = lane; j < hidden; j += 32) {
        const wide<T> x = widen(row[j]);
        for (int c = 0; c < C; c++) sums[c] += x * W[j * C + c];
    }
    wide<T> mine = 0;
    for (int c = 0; c < C; c++) {
        // Every lane gets the same sum, added in the same order.
        for (int reach = 16; reach > 0; reach /= 2) sums[c] += __shfl_xor_sync(0xffffffffu, sums[c], reach);
        if (lane == c) mine = sums[c];
    }
    return mine;
}

// The output layer forward, the loss, and the layer backward, with one read of h:
//
//     y = f(h W + b),  dz = gradient_scale w l'(y - target) f'(z),  dh = (dz W^T) f'(previous z)
//
// and partial sums of dW = h^T dz, db = sum of dz, value = sum of w l for `sum_partials` and `sum_values`.
//
// h, dh (K, rows, hidden), W (K, hidden, C), b (K, C), target (K, rows, C), weights w (K, rows) or null for
// ones, y (K, rows, C) or null, values (K, gridDim.x) in double, saved (K, rows, hidden) of the previous layer or
// null for h itself. partials (K, gridDim.x * groups, bias_offset + C), groups = blockDim.x / min(hidden,
// blockDim.x): each row has dW, zeros, and db from bias_offset, as the flat buffer of parameters. Warps of 32
// threads, at most 256 threads.
template <typename T, int C, typename F, typename L, typename P>
__global__ void head_step(
    const T* __restrict__ h, int64 h_stride, const wide<T>* W, int64 W_stride, const wide<T>* b, int64 b_stride,
    const wide<T>* target, int64 target_stride, const wide<T>* weights, int64 weights_stride,
    wide<T>* y, int64 y_stride, const T* saved, int64 saved_stride, T* __restrict__ dh, int64 dh_stride,
    wide<T>* partials, int64 partials_stride, int64 bias_offset, double* values, int64 values_stride, int64 rows,
    int hidden, F activation, L loss, P previous, double gradient_scale
) {
    typedef wide<T> A;
    const int rows_at_once = 32;
    __shared__ A dz[rows_at_once][C];
    __shared__ A bias_sums[8][C];
    __shared__ double value_sums[8][C];

    h += blockIdx.y * h_stride;
    W += blockIdx.y * W_stride;
    b += blockIdx.y * b_stride;
    target += blockIdx.y * target_stride;
    if (weights) weights += blockIdx.y * weights_stride;
    if (y) y += blockIdx.y * y_stride;
    if (saved) saved += blockIdx.y * saved_stride;
    dh += blockIdx.y * dh_stride;

    const int lane = threadIdx.x % 32, warp = threadIdx.x / 32, warps = blockDim.x / 32;
    const Tile tile = tile_of(hidden);
    const int64 width = bias_offset + C;
    partials += blockIdx.y * partials_stride + (int64)blockIdx.x * tile.groups * width;
    for (int64 i = threadIdx.x; i < tile.groups * width; i += blockDim.x) partials[i] = 0;

    A bias_sum = 0;
    double value_sum = 0;
    const int64 stride = (int64)gridDim.x * rows_at_once;
    for (int64 first = (int64)blockIdx.x * rows_at_once; first < rows; first += stride) {
        const int count = rows - first < rows_at_once ? (int)(rows - first) : rows_at_once;
        // One warp for each row: the products, and each channel's output, loss and gradient.
        for (int r = warp; r < count; r += warps) {
            const int64 i = first + r;
            const A product = product_of_row<T, C>(h + i * hidden, W, hidden);
            if (lane < C) {
                const A z = product + b[lane];
                const A output = activation.forward(z);
                const A residual = output - target[i * C + lane];
                const A weight = weights ? weights[i] : (A)1;
                A value, gradient;
                loss.evaluate(residual, value, gradient);
                const A dy = gradient * weight * (A)gradient_scale;
                const A slope = activation.backward(dy, F::saves_input ? z : output);
                if (y) y[i * C + lane] = output;
                dz[r][lane] = slope;
                bias_sum += slope;
                value_sum += value * weight;
            }
        }
        __syncthreads();
        // One thread for each column: no other thread writes its dh or its sums in `partials`.
        if (tile.group < tile.groups) {
            for (int j = tile.column; j < hidden; j += tile.columns) {
                A sums[C] = {}, w[C];
                for (int c = 0; c < C; c++) w[c] = W[j * C + c];
                for (int r = tile.group; r < count; r += tile.groups) {
                    const int64 place = (first + r) * hidden + j;
                    const A x = widen(h[place]);
                    A dx = 0;
                    for (int c = 0; c < C; c++) {
                        dx += dz[r][c] * w[c];
                        sums[c] += x * dz[r][c];
                    }
                    narrow(previous.backward(dx, saved ? widen(saved[place]) : x), dh[place]);
                }
                for (int c = 0; c < C; c++) partials[tile.group * width + j * C + c] += sums[c];
            }
        }
        __syncthreads();
    }

    if (lane < C) {
        bias_sums[warp][lane] = bias_sum;
        value_sums[warp][lane] = value_sum;
    }
    __syncthreads();
    if (threadIdx.x < C) {
        A total = 0;
        for (int i = 0; i < warps; i++) total += bias_sums[i][threadIdx.x];
        partials[bias_offset + threadIdx.x] = total;
    }
    if (threadIdx.x == 0) {
        double total = 0;
        for (int i = 0; i < warps; i++) {
            for (int c = 0; c < C; c++) total += value_sums[i][c];
        }
        values[blockIdx.y * values_stride + blockIdx.x] = total;
    }
}
