// The loss of a batch and its gradient in one pass.

// dy[k, i, c] = gradient_scale w[k, i] l'(r),  partials[k, block] = sum of the block's w[k, i] l(r)
//
// prediction, dy (K, rows, channels), target (K, rows, channels), weights w (K, rows) or null for ones,
// partials (K, gridDim.x) in double, which `sum_partials` adds and divides. gradient_scale is 1 / count, times the
// loss scale if gradients are stored in half. dy may be prediction itself. A power of two of threads, at most 256.
template <typename T, typename L>
__global__ void loss_and_gradient(
    const T* prediction, int64 prediction_stride, const wide<T>* target, int64 target_stride,
    const wide<T>* weights, int64 weights_stride, T* dy, int64 dy_stride, double* partials,
    int64 partials_stride, int64 rows, int channels, double gradient_scale, L loss
) {
    __shared__ double sums[256];
    prediction += blockIdx.y * prediction_stride;
    target += blockIdx.y * target_stride;
    dy += blockIdx.y * dy_stride;
    if (weights) weights += blockIdx.y * weights_stride;
    double sum = 0;
    for (int64 i = first_element(); i < rows * channels; i += element_step()) {
        const wide<T> r = widen(prediction[i]) - target[i];
        const wide<T> weight = weights ? weights[i / channels] : (wide<T>)1;
        wide<T> value, gradient;
        loss.evaluate(r, value, gradient);
        sum += value * weight;
        narrow(gradient * weight * (wide<T>)gradient_scale, dy[i]);
    }
    sums[threadIdx.x] = sum;
    for (int reach = (int)blockDim.x / 2; reach > 0; reach /= 2) {
        __syncthreads();
        if ((int)threadIdx.x < reach) sums[threadIdx.x] += sums[threadIdx.x + reach];
    }
    if (threadIdx.x == 0) partials[blockIdx.y * partials_stride + blockIdx.x] = sums[0];
}
