// Losses of the residual r = prediction - target: value and slope of one element, as types.
//
// Comparisons are written so that a NaN stays a NaN.

struct Mse {  // r^2
    template <typename A> __device__ static A value(A r, A) { return r * r; }
    template <typename A> __device__ static A gradient(A r, A) { return 2 * r; }
};

struct Mae {  // |r|
    template <typename A> __device__ static A value(A r, A) { return fabs(r); }
    template <typename A> __device__ static A gradient(A r, A) { return r > 0 ? (A)1 : r < 0 ? (A)-1 : r; }
};

struct Huber {  // r^2 / 2 up to |r| = delta, then delta (|r| - delta / 2)
    template <typename A> __device__ static A value(A r, A delta) {
        const A size = fabs(r);
        return size <= delta ? (A)0.5 * size * size : delta * (size - (A)0.5 * delta);
    }
    template <typename A> __device__ static A gradient(A r, A delta) {
        return r > delta ? delta : r < -delta ? -delta : r;
    }
};
