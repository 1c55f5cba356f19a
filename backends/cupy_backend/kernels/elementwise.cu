// Element-wise work and sums: bias and activation, its derivative, sums over rows, additions, casts.
//
// blockIdx.y is the member k; a stride counts the elements between members, 0 if they share an array.

// y = f(z + b), and z <- z + b if the input is saved. If it is not, y may be z itself.
//
// z, y (K, rows, width), bias (K, width).
template <typename T, typename F>
__global__ void bias_activation(
    T* z, int64 z_stride, const wide<T>* bias, int64 bias_stride, T* y, int64 y_stride, int64 rows, int width,
    F activation
) {
    z += blockIdx.y * z_stride;
    bias += blockIdx.y * bias_stride;
    y += blockIdx.y * y_stride;
    const Tile tile = tile_of(width);
    if (tile.group >= tile.groups) return;
    for (int j = tile.column; j < width; j += tile.columns) {
        const wide<T> b = bias[j];
        for (int64 i = tile.row; i < rows; i += tile.row_step) {
            const wide<T> sum = widen(z[i * width + j]) + b;
            if (F::saves_input) narrow(sum, z[i * width + j]);
            narrow(activation.forward(sum), y[i * width + j]);
        }
    }
}

// dz = dy f'(z), from `saved`, and partials[k, block, j] = sum over the block's rows of dz[k, i, j], which is read
// here anyway; they are added up later to the gradient of the bias. Those of the layer after it are complete by
// now: the blocks from `blocks` on add them up here, which saves a launch.
//
// dy, saved, dz (K, rows, width), partials (K, blocks, width). dz may be dy or saved itself. next_partials
// (K, next_parts, next_width) or null for none, next_sums (K, next_width). At most 256 threads; each has eight columns.
template <typename T, typename F>
__global__ void activation_backward(
    const T* dy, int64 dy_stride, const T* saved, int64 saved_stride, T* dz, int64 dz_stride, wide<T>* partials,
    int64 partials_stride, int64 rows, int width, int blocks, const wide<T>* next_partials,
    int64 next_partials_stride, wide<T>* next_sums, int64 next_sums_stride, int next_parts, int64 next_width,
    int accumulate, F activation
) {
    typedef wide<T> A;
    if ((int)blockIdx.x >= blocks) {
        next_partials += blockIdx.y * next_partials_stride;
        next_sums += blockIdx.y * next_sums_stride;
        const int64 block = blockIdx.x - blocks, others = gridDim.x - blocks;
        sum_columns(next_partials, next_sums, next_parts, next_width, accumulate, block, others);
        return;
    }
    const int at_once = 2;  // rows of a thread: all are loaded before one is stored
    __shared__ A sums[256][chunk];
    dy += blockIdx.y * dy_stride;
    saved += blockIdx.y * saved_stride;
    dz += blockIdx.y * dz_stride;
    partials += blockIdx.y * partials_stride + (int64)blockIdx.x * width;
    const bool whole = is_whole(dy, width) && is_whole(saved, width) && is_whole(dz, width);
    const int columns = (width + chunk - 1) / chunk;
    const Tile tile = tile_of(columns);
    const int64 row_step = (int64)blocks * tile.groups;
    for (int first = 0; first < columns; first += tile.columns) {
        const int64 j = (int64)(first + tile.column) * chunk, count = width - j;
        A sum[chunk] = {};
        if (tile.group < tile.groups && count > 0) {
            for (int64 top = tile.row; top < rows; top += at_once * row_step) {
                A x[at_once][chunk], gradient[at_once][chunk];
#pragma unroll
                for (int r = 0; r < at_once; r++) {
                    const int64 i = top + r * row_step;
                    const int64 here = i < rows ? count : 0;
                    load_chunk(saved + i * width + j, here, whole, x[r]);
                    load_chunk(dy + i * width + j, here, whole, gradient[r]);
                }
#pragma unroll
                for (int r = 0; r < at_once; r++) {
                    const int64 i = top + r * row_step;
                    if (i >= rows) break;
#pragma unroll
                    for (int n = 0; n < chunk; n++) {
                        gradient[r][n] = activation.backward(gradient[r][n], x[r][n]);
                        sum[n] += gradient[r][n];
                    }
                    store_chunk(gradient[r], count, whole, dz + i * width + j);
                }
            }
        }
        // One barrier is enough, as in `column_sums`.
#pragma unroll
        for (int n = 0; n < chunk; n++) sums[threadIdx.x][n] = sum[n];
        __syncthreads();
        if (tile.group == 0) {
            for (int n = 0; n < chunk && n < count; n++) {
                A total = sum[n];
                for (int group = 1; group < tile.groups; group++) {
                    total += sums[group * tile.columns + tile.column][n];
                }
                partials[j + n] = total;
            }
        }
    }
}

// partials[k, block, j] = sum over the block's rows of x[k, i, j]; `sum_partials` adds them up.
//
// x (K, rows, width), partials (K, gridDim.x, width). At most 256 threads. The order of the additions depends
// only on the launch, so a run repeats bit by bit.
template <typename T>
__global__ void column_sums(
    const T* x, int64 x_stride, wide<T>* partials, int64 partials_stride, int64 rows, int width
) {
    __shared__ wide<T> sums[256];
    x += blockIdx.y * x_stride;
    partials += blockIdx.y * partials_stride + (int64)blockIdx.x * width;
    const Tile tile = tile_of(width);
    const bool has_rows = tile.group < tile.groups;
    // One barrier is enough: if the loop repeats, each column has one thread, which reads only its own sum.
    // All threads repeat equally often, since all must reach the barrier.
    for (int first = 0; first < width; first += tile.columns) {
        const int j = first + tile.column;
        wide<T> sum = 0;
        if (has_rows && j < width) {
            for (int64 i = tile.row; i < rows; i += tile.row_step) sum += widen(x[i * width + j]);
        }
        sums[threadIdx.x] = sum;
        __syncthreads();
        if (tile.group == 0 && j < width) {
            for (int group = 1; group < tile.groups; group++) sum += sums[group * tile.columns + tile.column];
            partials[j] = sum;
        }
    }
}

// total[k, i] += part[k, i]
//
// total, part (K, count).
template <typename T>
__global__ void add(T* total, int64 total_stride, const T* part, int64 part_stride, int64 count) {
    total += blockIdx.y * total_stride;
    part += blockIdx.y * part_stride;
    for (int64 i = first_element(); i < count; i += element_step()) {
        narrow(widen(total[i]) + widen(part[i]), total[i]);
    }
}

// to[k, i] = from[k, i], rounded to nearest, ties to even.
//
// from, to (K, count).
template <typename T, typename O>
__global__ void cast(const T* from, int64 from_stride, O* to, int64 to_stride, int64 count) {
    from += blockIdx.y * from_stride;
    to += blockIdx.y * to_stride;
    for (int64 i = first_element(); i < count; i += element_step()) narrow((wide<O>)widen(from[i]), to[i]);
}
