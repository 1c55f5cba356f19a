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

// dz = dy f'(z), from `saved`. dz may be dy or saved itself.
//
// dy, saved, dz (K, count).
template <typename T, typename F>
__global__ void activation_backward(
    const T* dy, int64 dy_stride, const T* saved, int64 saved_stride, T* dz, int64 dz_stride, int64 count,
    F activation
) {
    dy += blockIdx.y * dy_stride;
    saved += blockIdx.y * saved_stride;
    dz += blockIdx.y * dz_stride;
    for (int64 i = first_element(); i < count; i += element_step()) {
        narrow(activation.backward(widen(dy[i]), widen(saved[i])), dz[i]);
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
