// CUDA kernels on the CPU: enough of CUDA's C++ for g++ to compile a .cu file, and a launch of a grid.
//
// A block's threads are concurrent std::threads, __syncthreads() is a std::barrier, blocks run one after the
// other. Kernels without barriers run in a plain loop, which is much faster; those with barriers, unless races
// are looked for, as fibers: stacks of one thread, which switches to the next at a barrier. All show the same
// faults as a GPU: a wrong index, an unchecked tail, a missing barrier (found by ThreadSanitizer with threads).
// They show nothing about speed, or about the hardware alone (memory order between blocks).
#pragma once
#include <pthread.h>
#include <ucontext.h>

#include <atomic>
#include <barrier>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <thread>
#include <vector>

#define __global__ static
#define __device__
#define __launch_bounds__(...)
#define __restrict__
#define __shared__ static  // one block at a time: its threads share what is static

using std::memcpy, std::cos, std::exp, std::expm1, std::fabs, std::log, std::log1p, std::pow, std::sin, std::sqrt, std::tanh;

struct Place {
    unsigned x, y, z;
};
inline thread_local Place threadIdx, blockIdx, blockDim, gridDim;

namespace simt {

enum { IN_A_LOOP, AS_THREADS, AS_FIBERS };

struct Launch {
    int grid[3], threads;  // threads of a block, along x
    int way;               // IN_A_LOOP, for kernels without barriers; AS_THREADS; AS_FIBERS
    int backwards;         // blocks from the last to the first: their order must not matter
};

// A warp waits at a POSIX barrier: std::barrier shares its waiting room with others, which to ThreadSanitizer
// looks as if two warps had waited for each other, and hides that they race.
struct Warp {
    pthread_barrier_t barrier;
    double values[2][32];
    explicit Warp(int lanes) { pthread_barrier_init(&barrier, nullptr, lanes); }
    ~Warp() { pthread_barrier_destroy(&barrier); }
};

struct Block {
    std::barrier<> barrier;
    std::vector<std::unique_ptr<Warp>> warps;
    std::atomic<long> waits{0};  // of all threads together
    explicit Block(int threads) : barrier(threads) {
        for (int first = 0; first < threads; first += 32) {
            warps.push_back(std::make_unique<Warp>(threads - first < 32 ? threads - first : 32));
        }
    }
};

// A kernel with its arguments. Not a template: each instance of a kernel would compile all of this again.
struct Body {
    void* arguments;
    void (*call)(void*);
    void operator()() const { call(arguments); }
};

// A barrier of fibers: the last one opens it for all.
struct Gate {
    int expected = 0, arrived = 0;
    long times_open = 0;
    void open_if_complete() {
        if (arrived == expected) arrived = 0, times_open++;
    }
};

struct WarpOfFibers {
    Gate gate;
    double values[2][32];
};

struct Fiber {
    WarpOfFibers* warp;
    std::vector<char> stack = std::vector<char>(1 << 16);
    ucontext_t start;
    void* where[5];  // of the compiler's own setjmp: twice as fast, and only right without optimisation
    bool begun, done;
    long waits;
    unsigned shuffles;
};

struct Fibers {
    std::vector<Fiber> all;
    std::vector<WarpOfFibers> warps;
    Gate block;
    void* scheduler[5];
    Fiber* running = nullptr;
    const Body* body = nullptr;

    // Lets the others run; returns when this fiber has its turn again.
    void pass() {
        if (!__builtin_setjmp(running->where)) __builtin_longjmp(scheduler, 1);
    }

    void wait(Gate& gate) {
        const long before = gate.times_open;
        gate.arrived++;
        gate.open_if_complete();
        while (gate.times_open == before) pass();
    }
};

inline Fibers fibers;  // of one thread
inline bool in_fibers = false;
inline thread_local Block* block = nullptr;
inline thread_local long waits = 0;  // of this thread at barriers
inline thread_local unsigned shuffles = 0;

inline Block& block_of_threads() {
    if (!block) {
        std::fputs("a kernel that waits for other threads was run in a loop\n", stderr);
        std::abort();
    }
    return *block;
}

inline void run_thread(int i, Place of_block, const Launch& launch, Body body) {
    threadIdx = {(unsigned)i, 0, 0};
    blockIdx = of_block;
    blockDim = {(unsigned)launch.threads, 1, 1};
    gridDim = {(unsigned)launch.grid[0], (unsigned)launch.grid[1], (unsigned)launch.grid[2]};
    body();
}

inline void begin_fiber() {
    (*fibers.body)();
    fibers.running->done = true;
    fibers.block.expected--;  // a fiber that ends must not keep the others waiting
    if (fibers.block.expected) fibers.block.open_if_complete();
    __builtin_longjmp(fibers.scheduler, 1);
}

// The fibers of a block, in turns, until all are done. Returns 1 if they did not all wait equally often.
inline int run_fibers(const Launch& launch, Place place, const Body& body) {
    if ((int)fibers.all.size() < launch.threads) fibers.all.resize(launch.threads);
    fibers.warps.assign((launch.threads + 31) / 32, WarpOfFibers());
    for (int i = 0; i < launch.threads; i++) {
        Fiber& fiber = fibers.all[i];
        fiber.begun = fiber.done = false;
        fiber.waits = fiber.shuffles = 0;
        fiber.warp = &fibers.warps[i / 32];
        fiber.warp->gate.expected++;
        getcontext(&fiber.start);
        fiber.start.uc_stack.ss_sp = fiber.stack.data();
        fiber.start.uc_stack.ss_size = fiber.stack.size();
        fiber.start.uc_link = nullptr;
        makecontext(&fiber.start, begin_fiber, 0);
    }
    fibers.block = {launch.threads, 0, 0};
    fibers.body = &body;
    static int left;  // static: a jump back would not keep them
    static long moved, moved_before;
    static Fiber *first, *last, *fiber;
    static WarpOfFibers *first_warp, *last_warp, *warp;
    first = fibers.all.data(), last = first + launch.threads;
    first_warp = fibers.warps.data(), last_warp = first_warp + fibers.warps.size();
    blockIdx = place;
    blockDim = {(unsigned)launch.threads, 1, 1};
    gridDim = {(unsigned)launch.grid[0], (unsigned)launch.grid[1], (unsigned)launch.grid[2]};
    in_fibers = true;
    for (left = launch.threads, moved_before = -1; left;) {
        left = 0;
        for (fiber = first; fiber != last; fiber++) {
            if (fiber->done) continue;
            left++;
            fibers.running = fiber;
            threadIdx.x = (unsigned)(fiber - first);
            if (!__builtin_setjmp(fibers.scheduler)) {
                if (fiber->begun) __builtin_longjmp(fiber->where, 1);
                fiber->begun = true;
                setcontext(&fiber->start);
            }
        }
        moved = launch.threads - left + fibers.block.times_open;
        for (warp = first_warp; warp != last_warp; warp++) moved += warp->gate.times_open;
        if (moved == moved_before) break;  // all wait for a fiber that has ended
        moved_before = moved;
    }
    in_fibers = false;
    if (left) return 1;
    for (int j = 1; j < launch.threads; j++) {
        if (fibers.all[j].waits != fibers.all[0].waits) return 1;
    }
    return 0;
}

// Returns 0, or 1 if the threads of a block did not all wait at the same number of barriers.
inline int run_blocks(const Launch& launch, Body body) {
    const int blocks = launch.grid[0] * launch.grid[1] * launch.grid[2];
    for (int b = 0; b < blocks; b++) {
        const unsigned n = launch.backwards ? blocks - 1 - b : b;
        const unsigned across = launch.grid[0], down = launch.grid[1];
        const Place place = {n % across, n / across % down, n / across / down};
        if (launch.way == IN_A_LOOP) {
            for (int i = 0; i < launch.threads; i++) run_thread(i, place, launch, body);
            continue;
        }
        if (launch.way == AS_FIBERS) {
            if (run_fibers(launch, place, body)) return 1;
            continue;
        }
        Block shared(launch.threads);
        std::atomic<int> differ{0};
        std::atomic<long> first_waits{-1};
        std::vector<std::thread> threads;
        for (int i = 0; i < launch.threads; i++) {
            threads.emplace_back([&, i] {
                block = &shared;
                waits = 0, shuffles = 0;
                run_thread(i, place, launch, body);
                long expected = -1;
                if (!first_waits.compare_exchange_strong(expected, waits) && expected != waits) differ = 1;
                shared.barrier.arrive_and_drop();  // a thread that ends must not keep the others waiting
            });
        }
        for (auto& thread : threads) thread.join();
        if (differ) return 1;
    }
    return 0;
}

template <typename Lambda> int run(const Launch& launch, Lambda lambda) {
    return run_blocks(launch, {&lambda, [](void* each) { (*(Lambda*)each)(); }});
}

}  // namespace simt

inline void __syncthreads() {
    if (simt::in_fibers) {
        simt::fibers.running->waits++;
        return simt::fibers.wait(simt::fibers.block);
    }
    simt::waits++;
    simt::block_of_threads().barrier.arrive_and_wait();
}

struct alignas(16) uint4 {
    unsigned x, y, z, w;
};

inline void __stcg(uint4* to, uint4 value) { *to = value; }

// Returns the value of lane `from`. All lanes of a warp take part, as the full mask says.
template <typename T> T __shfl_sync(unsigned, T value, int from) {
    if (simt::in_fibers) {
        simt::Fiber* const fiber = simt::fibers.running;
        const int own = threadIdx.x % 32;
        double* const buffer = fiber->warp->values[fiber->shuffles++ % 2];
        buffer[own] = value;
        simt::fibers.wait(fiber->warp->gate);
        return (T)buffer[from];
    }
    simt::Warp& warp = *simt::block_of_threads().warps[threadIdx.x / 32];
    // Two buffers in turn: at the next shuffle but one, all lanes have read this one.
    double* const values = warp.values[simt::shuffles++ % 2];
    values[threadIdx.x % 32] = value;
    pthread_barrier_wait(&warp.barrier);
    return (T)values[from];
}

template <typename T> T __shfl_xor_sync(unsigned mask, T value, int lane_mask) {
    return __shfl_sync(mask, value, (int)(threadIdx.x % 32) ^ lane_mask);
}

inline unsigned __float_as_uint(float x) {
    unsigned bits;
    std::memcpy(&bits, &x, sizeof bits);
    return bits;
}

inline float __uint_as_float(unsigned bits) {
    float x;
    std::memcpy(&x, &bits, sizeof x);
    return x;
}

inline void sincospi(double x, double* sine, double* cosine) {
    const double turn = 3.14159265358979323846 * std::remainder(x, 2.0);
    *sine = std::sin(turn);
    *cosine = std::cos(turn);
}

inline void sincospif(float x, float* sine, float* cosine) {
    double s, c;
    sincospi((double)x, &s, &c);
    *sine = (float)s;
    *cosine = (float)c;
}
