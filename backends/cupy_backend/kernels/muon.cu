// What Muon does to matrices beside the products of the Newton-Schulz iteration: see `bodies/muon.py`.
//
// blockIdx.y is the matrix: member * layers + layer. In the flat buffers of all parameters (K, P) the matrices of a
// member begin at `first` and every `step` numbers after that; elsewhere matrices follow each other without gaps.

__device__ inline int64 place_of_matrix(int64 stride, int64 first, int64 step, int layers) {
    return blockIdx.y / layers * stride + first + blockIdx.y % layers * step;
}

// M = momentum M + G,  X = scale (G + momentum M): Nesterov's momentum
//
// momenta M, gradient G (K, P), X (matrices, count).
template <typename T>
__global__ void muon_direction(
    T* momenta, const T* gradient, int64 stride, int64 first, int64 step, int layers, T* X, int64 count,
    double momentum, double scale
) {
    const int64 place = place_of_matrix(stride, first, step, layers);
    const T beta = (T)momentum, by = (T)scale;
    for (int64 i = first_element(); i < count; i += element_step()) {
        const T g = gradient[place + i], m = beta * momenta[place + i] + g;
        momenta[place + i] = m;
        X[blockIdx.y * count + i] = (g + beta * m) * by;
    }
}

// From A = X^T X: X / ||A||^(1/2) and A / ||A|| + shift I, with Frobenius norms; 0 and shift I if ||A|| < smallest.
//
// A, X (matrices, n, n). One block for each matrix: a power of two of threads, at most 1024. NaN stays NaN.
template <typename T>
__global__ void muon_normalize(T* A, T* X, int n, double shift, double smallest) {
    __shared__ double sums[1024];
    A += (int64)blockIdx.y * n * n;
    X += (int64)blockIdx.y * n * n;
    double sum = 0;
#pragma unroll 8
    for (int i = threadIdx.x; i < n * n; i += blockDim.x) sum += (double)A[i] * (double)A[i];
    sums[threadIdx.x] = sum;
    for (int reach = (int)blockDim.x / 2; reach > 0; reach /= 2) {
        __syncthreads();
        if ((int)threadIdx.x < reach) sums[threadIdx.x] += sums[threadIdx.x + reach];
    }
    __syncthreads();
    const double norm = sqrt(sums[0]);
    const T of_A = (T)(norm < smallest ? 0.0 : 1 / norm), of_X = (T)(norm < smallest ? 0.0 : 1 / sqrt(norm));
#pragma unroll 4
    for (int i = threadIdx.x; i < n * n; i += blockDim.x) {
        A[i] = A[i] * of_A + (T)(i % (n + 1) == 0 ? shift : 0.0);
        X[i] *= of_X;
    }
}

// W -= learning_rate scale X, and the copy of W in a 16-bit type, or null
//
// parameters W, compute_copy (K, P), X (matrices, count). learning_rate (K,), or (1,) with learning_rate_stride 0.
template <typename T, typename S>
__global__ void muon_update(
    T* parameters, S* compute_copy, int64 stride, int64 first, int64 step, int layers, const T* X, int64 count,
    const double* learning_rate, int64 learning_rate_stride, double scale
) {
    const int64 place = place_of_matrix(stride, first, step, layers);
    const T rate = (T)(learning_rate[blockIdx.y / layers * learning_rate_stride] * scale);
    for (int64 i = first_element(); i < count; i += element_step()) {
        const T p = parameters[place + i] - rate * X[blockIdx.y * count + i];
        parameters[place + i] = p;
        if (compute_copy) narrow((wide<S>)p, compute_copy[place + i]);
    }
}
