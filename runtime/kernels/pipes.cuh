// How fast a multiprocessor's pipes are: chains of one operation each, long enough that nothing else counts.
#pragma once
#include "word.cuh"

// Thread i writes one word, which depends on every step.
struct PipeArgs {
    u32* to;
    u32 steps;
    // Below 2^28, odd; and its inverse modulo 2^32.
    u32 q, q_inverse, unused;
};

// Independent chains of a thread: as many as hide an operation's latency.
#define CHAINS 8

// Step k of every chain, `steps` times, then the chains' sum.
template <class T, class F>
HERON_DEVICE void pipe(const PipeArgs& args, F f) {
    u32 thread = blockIdx.x * blockDim.x + threadIdx.x;
    T chain[CHAINS];
#pragma unroll
    for (int c = 0; c < CHAINS; c++) chain[c] = (T)(thread % 1024 + (u32)c + 1);
#pragma unroll 1
    for (u32 step = 0; step < args.steps; step++) {
#pragma unroll
        for (int c = 0; c < CHAINS; c++) chain[c] = f(chain[c]);
    }
    u32 sum = 0;
#pragma unroll
    for (int c = 0; c < CHAINS; c++) sum += (u32)(u64)chain[c];
    args.to[thread] = sum;
}

// The high word of a product.
HERON_DEVICE void pipe_high(const PipeArgs& args) {
    u32 q = args.q;
    pipe<u32>(args, [=](u32 x) { return high(x, 0u - q); });
}

// A 64-bit sum with a product of words.
HERON_DEVICE void pipe_wide(const PipeArgs& args) {
    u32 q = args.q;
    pipe<u64>(args, [=](u64 x) { return wide((u32)x, q) + x; });
}

// A multiplication and an addition of doubles.
HERON_DEVICE void pipe_double(const PipeArgs& args) {
    double factor = 0.5, addend = (double)(args.q % 1024);
    pipe<double>(args, [=](double x) { return x * factor + addend; });
}

// A Montgomery product, as a butterfly has one.
HERON_DEVICE void pipe_montgomery(const PipeArgs& args) {
    Prime p = {};
    p.q = args.q;
    p.q_inverse = args.q_inverse;
    i32 w = (i32)(args.q / 3);
    pipe<i32>(args, [=](i32 x) { return montgomery(x, w, p); });
}
