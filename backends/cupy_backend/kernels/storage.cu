// Number types and loops of all kernels: this text stands before each other file, since no file includes another.
//
// Numbers are stored as float, double, bf16 or half; arithmetic is in wide<T>, double for double, else float. The
// 16-bit types are our own: they need no header, and every compiler rounds in the same way.

typedef long long int64;
typedef unsigned int uint32;

struct bf16 {  // 1 sign, 8 exponent and 7 mantissa bits: the upper half of a float
    unsigned short bits;
};

struct half {  // 1 sign, 5 exponent and 10 mantissa bits: IEEE binary16
    unsigned short bits;
};

template <typename T> struct Wide { typedef float type; };
template <> struct Wide<double> { typedef double type; };
template <typename T> using wide = typename Wide<T>::type;

__device__ inline float widen(float x) { return x; }
__device__ inline double widen(double x) { return x; }
__device__ inline float widen(bf16 x) { return __uint_as_float((uint32)x.bits << 16); }

__device__ inline float widen(half x) {
    const uint32 exponent_mask = 0x7c00u << 13;
    uint32 word = (x.bits & 0x7fffu) << 13;
    const uint32 exponent = word & exponent_mask;
    word += (127 - 15) << 23;  // from half's exponent bias to float's
    if (exponent == exponent_mask) word += (128 - 16) << 23;  // infinity and NaN
    float value = __uint_as_float(word);
    // A subnormal has no hidden one: add it as a bit, and subtract it as a number.
    if (exponent == 0) value = __uint_as_float(word + (1u << 23)) - __uint_as_float(113u << 23);
    return (x.bits & 0x8000u) ? -value : value;
}

// Rounding to nearest, ties to even. A NaN stays a NaN.
__device__ inline void narrow(float x, float& stored) { stored = x; }
__device__ inline void narrow(double x, double& stored) { stored = x; }

__device__ inline void narrow(float x, bf16& stored) {
    const uint32 word = __float_as_uint(x);
    const bool is_nan = (word & 0x7fffffffu) > 0x7f800000u;  // rounding up could turn it into infinity
    const uint32 rounded = is_nan ? word | 0x00400000u : word + 0x7fffu + ((word >> 16) & 1u);
    stored.bits = (unsigned short)(rounded >> 16);
}

__device__ inline void narrow(float x, half& stored) {
    const uint32 sign = __float_as_uint(x) & 0x80000000u;
    uint32 word = __float_as_uint(x) ^ sign;
    if (word > 0x7f800000u) {
        word = 0x7e00u;  // NaN
    } else if (word >= (127u + 16u) << 23) {
        word = 0x7c00u;  // 65536 and above; below, smaller numbers may round up to it
    } else if (word < 113u << 23) {
        // Subnormal: the addition shifts the mantissa into place, and the hardware rounds it.
        const uint32 magic = 126u << 23;
        word = __float_as_uint(__uint_as_float(word) + __uint_as_float(magic)) - magic;
    } else {
        word += 0xfffu + ((word >> 13) & 1u);
        word = (word - ((127u - 15u) << 23)) >> 13;
    }
    stored.bits = (unsigned short)(word | sign >> 16);
}

// The elements of an array (rows, width) for each thread of a block: neighbours take neighbouring columns, and
// several rows at once if the array is narrow. Each thread divides by the width only once.
struct Tile {
    int column, columns;   // first column, and the step to the next
    int group, groups;     // which of the block's rows; a thread with `group >= groups` has none
    int64 row, row_step;   // first row, and the step to the next
};

__device__ inline Tile tile_of(int width) {
    Tile tile;
    tile.columns = width < (int)blockDim.x ? width : (int)blockDim.x;
    tile.groups = (int)blockDim.x / tile.columns;
    tile.group = (int)threadIdx.x / tile.columns;
    tile.column = (int)threadIdx.x - tile.group * tile.columns;
    tile.row = (int64)blockIdx.x * tile.groups + tile.group;
    tile.row_step = (int64)gridDim.x * tile.groups;
    return tile;
}

__device__ inline int64 first_element() { return (int64)blockIdx.x * blockDim.x + threadIdx.x; }
__device__ inline int64 element_step() { return (int64)gridDim.x * blockDim.x; }

// Eight neighbours of a row, as one thread reads and writes them: by vectors of 16 bytes if `whole`, which says that
// all rows begin at multiples of 16 bytes and end with a whole chunk; else one by one, the first `count` of them.
const int chunk = 8;
template <typename T> constexpr int vectors_of = chunk * sizeof(T) / sizeof(uint4);

template <typename T> __device__ inline void load_chunk(const T* from, int64 count, bool whole, wide<T>* to) {
    T values[chunk] = {};
    if (whole && count > 0) {
        uint4 vectors[vectors_of<T>];
        for (int i = 0; i < vectors_of<T>; i++) vectors[i] = ((const uint4*)from)[i];
        memcpy(values, vectors, sizeof values);
    } else {
#pragma unroll
        for (int i = 0; i < chunk; i++) {
            if (i < count) values[i] = from[i];
        }
    }
#pragma unroll
    for (int i = 0; i < chunk; i++) to[i] = widen(values[i]);
}

template <typename T> __device__ inline void store_chunk(const wide<T>* from, int64 count, bool whole, T* to) {
    T values[chunk];
#pragma unroll
    for (int i = 0; i < chunk; i++) narrow(from[i], values[i]);
    if (whole && count > 0) {
        uint4 vectors[vectors_of<T>];
        memcpy(vectors, values, sizeof values);
        // An assignment would become eight stores of two bytes.
        for (int i = 0; i < vectors_of<T>; i++) __stcg((uint4*)to + i, vectors[i]);
    } else {
#pragma unroll
        for (int i = 0; i < chunk; i++) {
            if (i < count) to[i] = values[i];
        }
    }
}

template <typename T> __device__ inline bool is_whole(const T* rows, int width) {
    return width % chunk == 0 && (int64)rows % (int64)sizeof(uint4) == 0;
}

// out[j] = (accumulate ? out[j] : 0) + sum over parts p of partials[p, j], for the columns of one block of many
//
// partials (parts, width), out (width,). A block takes eight columns at once, and its threads divide the parts of each:
// few of them for one thread, which waits for memory at every turn. At most 256 threads, all of which must call this.
template <typename A>
__device__ inline void sum_columns(
    const A* partials, A* out, int parts, int64 width, int accumulate, int64 block, int64 blocks
) {
    __shared__ double sums[256];
    const int column = threadIdx.x % 8, share = threadIdx.x / 8, shares = blockDim.x / 8;
    for (int64 first = block * 8; first < width; first += blocks * 8) {
        const int64 j = first + column;
        double sum = 0;
        if (j < width) {
#pragma unroll 8
            for (int p = share; p < parts; p += shares) sum += partials[p * width + j];
        }
        sums[threadIdx.x] = sum;
        __syncthreads();
        if (share == 0 && j < width) {
            double total = accumulate ? (double)out[j] : 0.0;
            for (int s = 0; s < shares; s++) total += sums[s * 8 + column];
            out[j] = (A)total;
        }
        __syncthreads();
    }
}
