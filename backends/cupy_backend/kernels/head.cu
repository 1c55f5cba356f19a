// The output layer of C <= 4 channels, too narrow for the matrix products of a library.
//
// blockIdx.y is the member k; a stride counts the elements between members, 0 if they share an array.

// The sum of a number over a team of neighbouring threads of a warp, or over the teams of a warp: from `first` lanes
// apart to below `last`, both powers of two. Every lane gets the same sum, added in the same order.
template <typename A> __device__ inline A sum_of_lanes(A number, int first, int last) {
    for (int reach = first; reach < last; reach *= 2) number += __shfl_xor_sync(0xffffffffu, number, reach);
    return number;
}

// The output layer forward, the loss, and the layer backward, with one read of h:
//
//     y = f(h W + b),  dz = gradient_scale w l'(y - target) f'(z),  dh = (dz W^T) f'(previous z)
//
// and partial sums of dW = h^T dz, db = sum of dz, value = sum of w l, and the sums of dh over rows, which are the
// previous layer's db: for `sum_partials`.
//
// h, dh (K, rows, hidden), W (K, hidden, C), b (K, C), target (K, rows, C), weights w (K, rows) or null for
// ones, y (K, rows, C) or null, values (K, gridDim.x) in double, saved (K, rows, hidden) of the previous layer or
// null for h itself. partials (K, gridDim.x, bias_offset + C): each row has dW, zeros, and db from bias_offset, as
// the flat buffer of parameters. column_partials (K, gridDim.x, hidden).
//
// A team of 4 to 32 threads, a power of two and at least C, takes a row. Each thread has `chunks` chunks of columns,
// with their W and its sums in registers: hidden <= chunk * chunks * team. Warps of 32 threads, at most 256 threads,
// or 128 if they have two chunks or doubles, whose sums of all warps would be too much shared memory. Two blocks
// share a multiprocessor, so that one computes while the other waits for memory.
template <typename T, int chunks> constexpr int most_threads = chunks == 1 && sizeof(wide<T>) == 4 ? 256 : 128;

template <typename T, int C, int chunks, typename F, typename L, typename P>
__global__ void __launch_bounds__(most_threads<T, chunks>, C < 4 ? 2 : 1) head_step(
    const T* __restrict__ h, int64 h_stride, const wide<T>* W, int64 W_stride, const wide<T>* b, int64 b_stride,
    const wide<T>* target, int64 target_stride, const wide<T>* weights, int64 weights_stride,
    wide<T>* y, int64 y_stride, const T* __restrict__ saved, int64 saved_stride, T* __restrict__ dh, int64 dh_stride,
    wide<T>* partials, int64 partials_stride, wide<T>* column_partials, int64 column_partials_stride,
    int64 bias_offset, double* values, int64 values_stride, int64 rows, int hidden, int team, F activation, L loss,
    P previous, double gradient_scale
) {
    typedef wide<T> A;
    const int at_once = chunks == 1 ? 2 : 1;  // rows of a team: all are loaded before the first is used
    const int most_warps = most_threads<T, chunks> / 32;
    __shared__ A sums[most_warps][chunks * chunk * (C + 1)][33];  // not 32: lanes write, and columns read, other banks
    __shared__ A bias_sums[most_warps][C];
    __shared__ double value_sums[most_warps][C];

    h += blockIdx.y * h_stride;
    W += blockIdx.y * W_stride;
    b += blockIdx.y * b_stride;
    target += blockIdx.y * target_stride;
    if (weights) weights += blockIdx.y * weights_stride;
    if (y) y += blockIdx.y * y_stride;
    if (saved) saved += blockIdx.y * saved_stride;
    dh += blockIdx.y * dh_stride;
    partials += blockIdx.y * partials_stride + blockIdx.x * (bias_offset + C);
    column_partials += blockIdx.y * column_partials_stride + (int64)blockIdx.x * hidden;

    const int lane = threadIdx.x % 32, warp = threadIdx.x / 32, warps = blockDim.x / 32;
    const int seat = threadIdx.x % team, teams = blockDim.x / team;
    const bool whole = is_whole(h, hidden) && is_whole(dh, hidden) && (!saved || is_whole(saved, hidden));

    A w[chunks][chunk][C], dw[chunks][chunk][C] = {}, dx_sum[chunks][chunk] = {};
#pragma unroll
    for (int m = 0; m < chunks; m++) {
#pragma unroll
        for (int n = 0; n < chunk; n++) {
            const int j = (m * team + seat) * chunk + n;
#pragma unroll
            for (int c = 0; c < C; c++) w[m][n][c] = j < hidden ? W[j * C + c] : (A)0;
        }
    }
    const A bias = seat < C ? b[seat] : (A)0;
    A bias_sum = 0;
    double value_sum = 0;
    const int64 block_rows = (int64)teams * at_once, stride = gridDim.x * block_rows;
    for (int64 first = blockIdx.x * block_rows; first < rows; first += stride) {
        A x[at_once][chunks][chunk];
#pragma unroll
        for (int r = 0; r < at_once; r++) {
            const int64 i = first + r * teams + threadIdx.x / team;
#pragma unroll
            for (int m = 0; m < chunks; m++) {
                const int j = (m * team + seat) * chunk;
                load_chunk(h + i * hidden + j, i < rows ? hidden - j : 0, whole, x[r][m]);
            }
        }
#pragma unroll
        for (int r = 0; r < at_once; r++) {
            const int64 i = first + r * teams + threadIdx.x / team;
            A z = 0;  // of the channel that is this thread's
#pragma unroll
            for (int c = 0; c < C; c++) {
                A product = 0;
#pragma unroll
                for (int m = 0; m < chunks; m++) {
#pragma unroll
                    for (int n = 0; n < chunk; n++) product += x[r][m][n] * w[m][n][c];
                }
                product = sum_of_lanes(product, 1, team);
                if (seat == c) z = product + bias;
            }
            A slope = 0;
            if (seat < C && i < rows) {
                const A output = activation.forward(z);
                const A residual = output - target[i * C + seat];
                const A weight = weights ? weights[i] : (A)1;
                A value, gradient;
                loss.evaluate(residual, value, gradient);
                const A dy = gradient * weight * (A)gradient_scale;
                slope = activation.backward(dy, F::saves_input ? z : output);
                if (y) y[i * C + seat] = output;
                bias_sum += slope;
                value_sum += value * weight;
            }
            A dz[C];
#pragma unroll
            for (int c = 0; c < C; c++) dz[c] = __shfl_sync(0xffffffffu, slope, lane - seat + c);
            if (i >= rows) continue;  // the other lanes have no shuffle before the next row, where this one is back
#pragma unroll
            for (int m = 0; m < chunks; m++) {
                const int j = (m * team + seat) * chunk;
                A dx[chunk], state[chunk];
                if (saved) load_chunk(saved + i * hidden + j, hidden - j, whole, state);
#pragma unroll
                for (int n = 0; n < chunk; n++) {
                    A sum = 0;
#pragma unroll
                    for (int c = 0; c < C; c++) {
                        sum += dz[c] * w[m][n][c];
                        dw[m][n][c] += x[r][m][n] * dz[c];
                    }
                    dx[n] = previous.backward(sum, saved ? state[n] : x[r][m][n]);
                    dx_sum[m][n] += dx[n];
                }
                store_chunk(dx, hidden - j, whole, dh + i * hidden + j);
            }
        }
    }

    // The sums of each warp's teams, then those of the warps, in a fixed order.
#pragma unroll
    for (int m = 0; m < chunks; m++) {
#pragma unroll
        for (int n = 0; n < chunk; n++) {
            A(*const own)[33] = sums[warp] + (m * chunk + n) * (C + 1);
#pragma unroll
            for (int c = 0; c < C; c++) own[c][lane] = sum_of_lanes(dw[m][n][c], team, 32);
            own[C][lane] = sum_of_lanes(dx_sum[m][n], team, 32);
        }
    }
    bias_sum = sum_of_lanes(bias_sum, team, 32);
    value_sum = sum_of_lanes(value_sum, team, 32);
    if (lane < C) {
        bias_sums[warp][lane] = bias_sum;
        value_sums[warp][lane] = value_sum;
    }
    __syncthreads();
    for (int i = threadIdx.x; i < hidden * (C + 1); i += blockDim.x) {
        const int j = i / (C + 1), c = i % (C + 1), first = j / chunk;
        A total = 0;
        for (int v = 0; v < warps; v++) {
            total += sums[v][(first / team * chunk + j % chunk) * (C + 1) + c][first % team];
        }
        (c < C ? partials[j * C + c] : column_partials[j]) = total;
    }
    for (int i = hidden * C + threadIdx.x; i < bias_offset; i += blockDim.x) partials[i] = 0;
    if (threadIdx.x < C) {
        A total = 0;
        for (int i = 0; i < warps; i++) total += bias_sums[i][threadIdx.x];
        partials[bias_offset + threadIdx.x] = total;
    }
    if (threadIdx.x == 0) {
        double total = 0;
        for (int i = 0; i < warps; i++) {
#pragma unroll
            for (int c = 0; c < C; c++) total += value_sums[i][c];
        }
        values[blockIdx.y * values_stride + blockIdx.x] = total;
    }
}
