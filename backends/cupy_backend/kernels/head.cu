// The output layer of C <= 4 channels: so narrow that a matrix product of a library is mostly waiting.
//
// blockIdx.y is the member k; a stride is what lies between members, in elements, and 0 where they share.
// Activation and loss are numbers here (ACTIVATION_CODES and LOSS_CODES in __init__.py): they matter once for C
// numbers of a row, and every thread takes the same way.

enum { IDENTITY, RELU, TANH, SIGMOID, SINE };
enum { MSE, MAE, HUBER };

template <typename A> __device__ inline A activate(int activation, A z, A omega) {
    switch (activation) {
        case RELU: return Relu::forward(z, omega);
        case TANH: return Tanh::forward(z, omega);
        case SIGMOID: return Sigmoid::forward(z, omega);
        case SINE: return Sine::forward(z, omega);
        default: return z;
    }
}

template <typename A> __device__ inline A activate_backward(int activation, A dy, A z, A y, A omega) {
    switch (activation) {
        case RELU: return Relu::backward(dy, y, omega);
        case TANH: return Tanh::backward(dy, y, omega);
        case SIGMOID: return Sigmoid::backward(dy, y, omega);
        case SINE: return Sine::backward(dy, z, omega);
        default: return dy;
    }
}

template <typename A> __device__ inline A loss_value(int loss, A r, A delta) {
    return loss == MSE ? Mse::value(r, delta) : loss == MAE ? Mae::value(r, delta) : Huber::value(r, delta);
}

template <typename A> __device__ inline A loss_gradient(int loss, A r, A delta) {
    return loss == MSE ? Mse::gradient(r, delta)
         : loss == MAE ? Mae::gradient(r, delta) : Huber::gradient(r, delta);
}

// One row of h W by one warp; lane c gets channel c, and what the other lanes get means nothing.
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
        // Every lane ends with the same sum, added in the same order.
        for (int reach = 16; reach > 0; reach /= 2) sums[c] += __shfl_xor_sync(0xffffffffu, sums[c], reach);
        if (lane == c) mine = sums[c];
    }
    return mine;
}

// y = f(z), z = h W + b.
//
// h (K, rows, hidden), W (K, hidden, C), b (K, C), y (K, rows, C), z (K, rows, C) or null. A warp takes a row.
template <typename T, int C>
__global__ void head_forward(
    const T* h, int64 h_stride, const wide<T>* W, int64 W_stride, const wide<T>* b, int64 b_stride,
    wide<T>* y, int64 y_stride, wide<T>* z, int64 z_stride, int64 rows, int hidden, int activation, double omega
) {
    h += blockIdx.y * h_stride;
    W += blockIdx.y * W_stride;
    b += blockIdx.y * b_stride;
    y += blockIdx.y * y_stride;
    if (z) z += blockIdx.y * z_stride;
    const int lane = threadIdx.x % 32;
    const int64 warps = (int64)gridDim.x * (blockDim.x / 32);
    for (int64 i = first_element() / 32; i < rows; i += warps) {
        const wide<T> product = product_of_row<T, C>(h + i * hidden, W, hidden);
        if (lane < C) {
            const wide<T> sum = product + b[lane];
            if (z) z[i * C + lane] = sum;
            y[i * C + lane] = activate(activation, sum, (wide<T>)omega);
        }
    }
}

// The output layer forward, the loss, and the layer backward, so that h is read from memory once:
//
//     y = f(h W + b),  dz = gradient_scale w l'(y - target) f'(z),  dh = (dz W^T) where h > 0, else 0
//
// and, as partial sums for `sum_partials` and `sum_values`, dW = h^T dz, db = sum of dz, value = sum of w l.
//
// h, dh (K, rows, hidden), W (K, hidden, C), b (K, C), target (K, rows, C), weights w (K, rows) or null for
// ones, y (K, rows, C) or null, values (K, gridDim.x) in double. partials (K, gridDim.x * groups, bias_offset +
// C) with groups = blockDim.x / min(hidden, blockDim.x): dW from the start of each row and db from bias_offset,
// zero between, as W and b lie in the flat buffer of parameters. Warps of 32 threads, at most 256 threads. h >
// 0 is the derivative of a ReLU below, whose output h is.
template <typename T, int C>
__global__ void head_step(
    const T* __restrict__ h, int64 h_stride, const wide<T>* W, int64 W_stride, const wide<T>* b, int64 b_stride,
    const wide<T>* target, int64 target_stride, const wide<T>* weights, int64 weights_stride,
    wide<T>* y, int64 y_stride, T* __restrict__ dh, int64 dh_stride, wide<T>* partials, int64 partials_stride,
    int64 bias_offset, double* values, int64 values_stride, int64 rows, int hidden,
    int activation, double omega, int loss, double delta, double gradient_scale
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
        // A warp for each row: the products, and for each channel what follows from them.
        for (int r = warp; r < count; r += warps) {
            const int64 i = first + r;
            const A product = product_of_row<T, C>(h + i * hidden, W, hidden);
            if (lane < C) {
                const A z = product + b[lane];
                const A output = activate(activation, z, (A)omega);
                const A residual = output - target[i * C + lane];
                const A weight = weights ? weights[i] : (A)1;
                const A dy = loss_gradient(loss, residual, (A)delta) * weight * (A)gradient_scale;
                const A slope = activate_backward(activation, dy, z, output, (A)omega);
                if (y) y[i * C + lane] = output;
                dz[r][lane] = slope;
                bias_sum += slope;
                value_sum += loss_value(loss, residual, (A)delta) * weight;
            }
        }
        __syncthreads();
        // A thread for each column: no other thread touches its dh, nor its sums in `partials`.
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
                    narrow(Relu::backward(dx, x, (A)0), dh[place]);
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
