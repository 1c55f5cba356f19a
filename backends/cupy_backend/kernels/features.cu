// Fourier features [cos(2 pi B v), sin(2 pi B v)] of Tancik et al. (2020), and the gathering of rows.
//
// blockIdx.y is the member k; a stride counts the elements between members, 0 if they share an array.

__device__ inline void sine_and_cosine_of_pi_times(float x, float* sine, float* cosine) {
    sincospif(x, sine, cosine);
}
__device__ inline void sine_and_cosine_of_pi_times(double x, double* sine, double* cosine) {
    sincospi(x, sine, cosine);
}

// Both features of one frequency at one point. sincospi subtracts whole turns exactly before it multiplies by
// pi; sin(2 pi B v) would lose digits with every turn.
template <typename T, typename O>
__device__ inline void write_features(T x, T y, const T* frequency, O& cosine_out, O& sine_out) {
    const T cycles = x * frequency[0] + y * frequency[1];
    T sine, cosine;
    sine_and_cosine_of_pi_times(2 * cycles, &sine, &cosine);
    narrow((wide<O>)cosine, cosine_out);
    narrow((wide<O>)sine, sine_out);
}

// out[k, i, j] = cos(2 pi B[k, j] . v[k, i]),  out[k, i, m + j] = sin(2 pi B[k, j] . v[k, i])
//
// coordinates v (K, rows, 2), B (K, m, 2), out (K, rows, 2 m).
template <typename T, typename O>
__global__ void fourier_features(
    const T* coordinates, int64 coordinates_stride, const T* B, int64 B_stride, O* out, int64 out_stride,
    int64 rows, int m
) {
    coordinates += blockIdx.y * coordinates_stride;
    B += blockIdx.y * B_stride;
    out += blockIdx.y * out_stride;
    const Tile tile = tile_of(m);
    if (tile.group >= tile.groups) return;
    for (int64 i = tile.row; i < rows; i += tile.row_step) {
        const T x = coordinates[2 * i], y = coordinates[2 * i + 1];
        O* const row = out + i * 2 * m;
        for (int j = tile.column; j < m; j += tile.columns) write_features(x, y, B + 2 * j, row[j], row[m + j]);
    }
}

// The same for pixels of a grid by number, without stored coordinates:
// v = (column x_scale + x_start, row y_scale + y_start) with row = index / columns, column = index % columns.
//
// index (K, rows) below 2^32, B (K, m, 2), out (K, rows, 2 m).
template <typename T, typename O>
__global__ void pixel_fourier_features(
    const int64* index, int64 index_stride, const T* B, int64 B_stride, O* out, int64 out_stride, int64 rows,
    int m, int64 columns, double x_scale, double x_start, double y_scale, double y_start
) {
    index += blockIdx.y * index_stride;
    B += blockIdx.y * B_stride;
    out += blockIdx.y * out_stride;
    const Tile tile = tile_of(m);
    if (tile.group >= tile.groups) return;
    for (int64 i = tile.row; i < rows; i += tile.row_step) {
        const uint32 pixel = (uint32)index[i];  // a 64-bit division would cost more than the sine
        const uint32 row = pixel / (uint32)columns, column = pixel - row * (uint32)columns;
        const T x = (T)column * (T)x_scale + (T)x_start, y = (T)row * (T)y_scale + (T)y_start;
        O* const features = out + i * 2 * m;
        for (int j = tile.column; j < m; j += tile.columns) {
            write_features(x, y, B + 2 * j, features[j], features[m + j]);
        }
    }
}

// The features of a grid's pixels start, start + 1, ... from tables for its columns (a) and rows (b):
// cos(a + b) = cos a cos b - sin a sin b,  sin(a + b) = sin a cos b + cos a sin b.
//
// x_table (width, 2 m), y_table (height, 2 m), out (rows, 2 m).
template <typename T, typename O>
__global__ void grid_fourier_features(
    const T* x_table, const T* y_table, O* out, int64 start, int64 rows, int m, int64 width
) {
    const Tile tile = tile_of(m);
    if (tile.group >= tile.groups) return;
    for (int64 i = tile.row; i < rows; i += tile.row_step) {
        const int64 row = (start + i) / width, column = (start + i) - row * width;
        const T *const x = x_table + column * 2 * m, *const y = y_table + row * 2 * m;
        O* const features = out + i * 2 * m;
        for (int j = tile.column; j < m; j += tile.columns) {
            const T ca = x[j], sa = x[m + j], cb = y[j], sb = y[m + j];
            narrow((wide<O>)(ca * cb - sa * sb), features[j]);
            narrow((wide<O>)(sa * cb + ca * sb), features[m + j]);
        }
    }
}

// out[k, i] = array[k, index[k, i]], rows of `width` numbers. Indices are not checked.
//
// array (K, N, width), index (K, rows), out (K, rows, width).
template <typename T>
__global__ void take_rows(
    const T* array, int64 array_stride, const int64* index, int64 index_stride, T* out, int64 out_stride,
    int64 rows, int width
) {
    array += blockIdx.y * array_stride;
    index += blockIdx.y * index_stride;
    out += blockIdx.y * out_stride;
    const Tile tile = tile_of(width);
    if (tile.group >= tile.groups) return;
    for (int64 i = tile.row; i < rows; i += tile.row_step) {
        const T* const source = array + index[i] * width;
        for (int j = tile.column; j < width; j += tile.columns) out[i * width + j] = source[j];
    }
}
