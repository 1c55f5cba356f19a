// Optimizer steps in one pass over flat buffers: parameters, gradient and state (K, count), blockIdx.y the member.
//
// The step's number and the learning rates are read from device memory, so that a recorded step can be replayed.
// `compute_copy` is a copy of the parameters in a 16-bit type, or null. The gradient is first divided by
// loss_scale. All buffers have the same stride.

// step[0] += 1. One thread.
__global__ void advance(int64* step) { step[0] += 1; }

// One step of a rule R with at most four buffers of state; the others are null.
//
// step (1,): t, from 1. learning_rate (K,), or (1,) with learning_rate_stride 0. ranges (num_ranges, 2): starts and
// ends of what is updated, `count` numbers in all; or null for the first `count`.
template <typename T, typename S, typename R>
__global__ void optimizer_step(
    T* parameters, const T* gradient, T* state_0, T* state_1, T* state_2, T* state_3, S* compute_copy, int64 stride,
    int64 count, const int64* ranges, int num_ranges, const int64* step, const double* learning_rate,
    int64 learning_rate_stride, R rule, double loss_scale
) {
    // In double, since 1 - beta^t loses digits in float; once for the block, since pow is slow.
    __shared__ double in_double[R::num_coefficients];
    if (threadIdx.x == 0) {
        rule.coefficients((double)step[0], learning_rate[blockIdx.y * learning_rate_stride], in_double);
    }
    __syncthreads();
    T* const state[4] = {state_0, state_1, state_2, state_3};
    T k[R::num_coefficients];
    for (int n = 0; n < R::num_coefficients; n++) k[n] = (T)in_double[n];
    const T unscale = (T)(1 / loss_scale);
    const int64 member = blockIdx.y * stride;
    for (int64 n = first_element(); n < count; n += element_step()) {
        int64 i = member + n;
        for (int r = 0; r < num_ranges; r++) {
            const int64 size = ranges[2 * r + 1] - ranges[2 * r];
            if (i < member + size) {
                i += ranges[2 * r];
                break;
            }
            i -= size;
        }
        T p = parameters[i], s[4];
        for (int n = 0; n < R::num_states; n++) s[n] = state[n][i];
        rule.update(k, p, gradient[i] * unscale, s);
        for (int n = 0; n < R::num_states; n++) state[n][i] = s[n];
        parameters[i] = p;
        if (compute_copy) narrow((wide<S>)p, compute_copy[i]);
    }
}
