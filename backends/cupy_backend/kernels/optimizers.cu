// Optimizer steps over flat buffers, one pass: parameters, gradient and moments are (K, count), blockIdx.y the
// member.
//
// What changes from step to step (the step's number, the learning rates) is read from device memory, so that a
// recorded step can be replayed. `shadow` is a copy of the parameters in a 16-bit type, or null. The gradient
// is divided by loss_scale first. One stride serves all buffers: they are laid out alike.

// step[0] += 1. One thread.
__global__ void advance(int64* step) { step[0] += 1; }

// Adam (Kingma and Ba, 2015), with the moments as plain sums and the factors (1 - beta) in the bias
// corrections:
//
//     m <- beta1 m + g,  v <- beta2 v + g^2
//     p <- p - learning_rate (1 - beta1) / (1 - beta1^t) m / (sqrt(v (1 - beta2) / (1 - beta2^t)) + epsilon)
//
// step (1,): t, counted from 1. learning_rate (K,), or (1,) with learning_rate_stride 0.
template <typename T, typename S>
__global__ void adam_step(
    T* parameters, const T* gradient, T* first_moment, T* second_moment, S* shadow, int64 stride, int64 count,
    const int64* step, const double* learning_rate, int64 learning_rate_stride, double beta1, double beta2,
    double epsilon, double loss_scale
) {
    // In double, for 1 - beta2^t loses digits in float; once for the block, for pow is long.
    __shared__ double step_size, root_factor;
    if (threadIdx.x == 0) {
        const double t = (double)step[0];
        step_size = learning_rate[blockIdx.y * learning_rate_stride] * ((1 - beta1) / (1 - pow(beta1, t)));
        root_factor = (1 - beta2) / (1 - pow(beta2, t));
    }
    __syncthreads();
    const T size = (T)step_size, factor = (T)root_factor, unscale = (T)(1 / loss_scale);
    const int64 member = blockIdx.y * stride;
    for (int64 i = member + first_element(); i < member + count; i += element_step()) {
        const T g = gradient[i] * unscale;
        const T m = (T)beta1 * first_moment[i] + g;
        const T v = (T)beta2 * second_moment[i] + g * g;
        const T p = parameters[i] - size * m / (sqrt(v * factor) + (T)epsilon);
        first_moment[i] = m;
        second_moment[i] = v;
        parameters[i] = p;
        if (shadow) narrow((wide<S>)p, shadow[i]);
    }
}

// Gradient descent, with momentum where `velocity` is not null:
//
//     v <- momentum v + g,  p <- p - learning_rate v, or with Nesterov p - learning_rate (g + momentum v)
//
// learning_rate (K,), or (1,) with learning_rate_stride 0.
template <typename T, typename S>
__global__ void sgd_step(
    T* parameters, const T* gradient, T* velocity, S* shadow, int64 stride, int64 count,
    const double* learning_rate, int64 learning_rate_stride, double momentum, int nesterov, double loss_scale
) {
    const T rate = (T)learning_rate[blockIdx.y * learning_rate_stride], unscale = (T)(1 / loss_scale);
    const int64 member = blockIdx.y * stride;
    for (int64 i = member + first_element(); i < member + count; i += element_step()) {
        const T g = gradient[i] * unscale;
        T direction = g;
        if (velocity) {
            const T v = (T)momentum * velocity[i] + g;
            velocity[i] = v;
            direction = nesterov ? g + (T)momentum * v : v;
        }
        const T p = parameters[i] - rate * direction;
        parameters[i] = p;
        if (shadow) narrow((wide<S>)p, shadow[i]);
    }
}
