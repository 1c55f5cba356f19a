// Activations f and their derivatives, as types: the compiler makes a kernel for each.
//
// `derivative` gets what the layer kept: the output y, or the input z where the formula needs it (sine).
// Comparisons are written so that a NaN stays a NaN, as it does in NumPy: a run that diverges is to be seen.

struct Identity {
    template <typename A> __device__ static A forward(A z, A) { return z; }
    template <typename A> __device__ static A backward(A dy, A, A) { return dy; }
};

struct Relu {  // max(z, 0)
    template <typename A> __device__ static A forward(A z, A) { return z < 0 ? (A)0 : z; }
    template <typename A> __device__ static A backward(A dy, A y, A) { return y > 0 ? dy : (A)0; }
};

struct Tanh {
    template <typename A> __device__ static A forward(A z, A) { return tanh(z); }
    template <typename A> __device__ static A backward(A dy, A y, A) { return dy * (1 - y * y); }
};

struct Sigmoid {  // 1 / (1 + exp(-z)) = (1 + tanh(z / 2)) / 2, which overflows nowhere
    template <typename A> __device__ static A forward(A z, A) { return (A)0.5 * (1 + tanh((A)0.5 * z)); }
    template <typename A> __device__ static A backward(A dy, A y, A) { return dy * y * (1 - y); }
};

struct Sine {  // sin(omega z); keeps z
    template <typename A> __device__ static A forward(A z, A omega) { return sin(omega * z); }
    template <typename A> __device__ static A backward(A dy, A z, A omega) {
        return dy * (omega * cos(omega * z));
    }
};
