// The order of mini-batches: a permutation of each epoch by arithmetic, without a sort.
//
// A Feistel network over the smallest even number of bits that holds n, with cycle-walking (Black and Rogaway,
// 2002; Mitchell et al., arXiv:2106.06161). All in integers, so that the batches equal those of the CPU.

// A 32-bit finalizer: every input bit changes about half of the output bits. It wraps on purpose.
__device__ inline uint32 mix(uint32 x) {
    x = (x ^ (x >> 16)) * 0x7feb352du;
    x = (x ^ (x >> 15)) * 0x846ca68bu;
    return x ^ (x >> 16);
}

__device__ inline uint32 feistel(uint32 x, int half_bits, uint32 key) {
    const uint32 mask = (1u << half_bits) - 1u;
    uint32 left = x >> half_bits, right = x & mask;
    for (uint32 k = 0; k < 8; k++) {
        const uint32 old = right;
        right = (left ^ mix(right ^ key ^ (k * 0x9e3779b1u))) & mask;
        left = old;
    }
    return left << half_bits | right;
}

// Batch t holds positions t B to (t + 1) B of a member's endless sequence epoch 0, epoch 1, ...
//
// step (1,): t = step[0] + step_offset; a recorded step reads the counter from device memory. seeds (K,),
// out (K, B). n from 1 to 2^32 - 1.
__global__ void batch_order(
    const int64* step, int64 step_offset, const uint32* seeds, int64* out, int64 out_stride, int64 n,
    int64 batch_size
) {
    const int64 start = (step[0] + step_offset) * batch_size;
    const uint32 seed = seeds[blockIdx.y];
    int half_bits = 1;
    while ((n - 1) >> (2 * half_bits)) half_bits++;
    for (int64 i = first_element(); i < batch_size; i += element_step()) {
        const int64 epoch = (start + i) / n;
        const uint32 key = mix(seed ^ mix((uint32)epoch + 0x9e3779b9u));
        uint32 x = (uint32)(start + i - epoch * n);
        do x = feistel(x, half_bits, key); while (x >= n);
        out[blockIdx.y * out_stride + i] = x;
    }
}
