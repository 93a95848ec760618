// Transforms of 2^STAGES points by one group of threads, in passes of a few stages: what a pass works on is in registers, and between
// passes in shared memory.
//
// A thread holds 2^RADIX points. Forward: butterflies (u, v) -> (u + w v, u - w v) with halving distance; backward: the same butterfly with
// doubling distance, on points in bit-reversed order (decimation in time). Both multiply first, so a stage adds at most 3q/4 to a
// bound instead of doubling it, and a whole transform needs no correction: from [0, q) or (-q, q) nine stages stay within 7.75 q < 8 q.
#pragma once
#include "ring.cuh"

// Stages of pass number `pass`: as even as possible, larger ones first.
template <int STAGES, int RADIX>
struct Plan {
    static constexpr int passes = (STAGES + RADIX - 1) / RADIX;
    static constexpr HERON_DEVICE int stages(int pass) { return (STAGES + passes - 1 - pass) / passes; }
    static constexpr HERON_DEVICE int before(int pass) { return pass == 0 ? 0 : before(pass - 1) + stages(pass - 1); }
};

HERON_DEVICE void butterfly(i32& u, i32& v, i32 w, const Prime& p) {
    i32 m = montgomery(v, w, p);
    i32 sum = u + m;
    v = u - m;
    u = sum;
}

// Pass PASS of a forward transform. `root` is the twiddle's index at stage 0: 1 for a whole transform.
template <int STAGES, int RADIX, int PASS, class Tile>
HERON_DEVICE void forward_pass(Tile& tile, u32 thread, u32 root, const i32* twiddles, const Prime& p) {
    typedef Plan<STAGES, RADIX> Stages;
    constexpr int K = Stages::stages(PASS), BEFORE = Stages::before(PASS);
    constexpr u32 STRIDE = 1u << (STAGES - BEFORE - K), THREADS = 1u << (STAGES - RADIX);
    constexpr bool FIRST = PASS == 0, LAST = PASS == Stages::passes - 1;
    if (!FIRST) __syncthreads();
#pragma unroll
    for (int g = 0; g < 1 << (RADIX - K); g++) {
        u32 number = thread + g * THREADS, block = number / STRIDE, offset = number % STRIDE;
        u32 base = block * (STRIDE << K) + offset;
        i32 x[1 << K];
        if constexpr (FIRST && STRIDE == 1 && Tile::RUNS) {
            tile.load_run(base, x);
        } else {
#pragma unroll
            for (int e = 0; e < 1 << K; e++) {
                x[e] = FIRST ? tile.load(base + e * STRIDE, e) : tile.get(base + e * STRIDE);
            }
        }
#pragma unroll
        for (int k = 0; k < K; k++) {
            const i32* row = twiddles + (root << (BEFORE + k)) + (block << k);
#pragma unroll
            for (int e = 0; e < 1 << (K - 1); e++) {
                int half = 1 << (K - 1 - k), b = e / half, low = b * 2 * half + e % half;
                butterfly(x[low], x[low + half], row[b], p);
            }
        }
        if constexpr (LAST && STRIDE == 1 && Tile::RUNS) {
            tile.store_run(base, x, g << K);
        } else {
#pragma unroll
            for (int e = 0; e < 1 << K; e++) {
                if constexpr (LAST) {
                    tile.store(base + e * STRIDE, x[e]);
                } else {
                    tile.put(base + e * STRIDE, x[e]);
                }
            }
        }
    }
}

// Pass PASS of a backward transform; `twiddles` as `Ring::inverse`.
template <int STAGES, int RADIX, int PASS, class Tile>
HERON_DEVICE void backward_pass(Tile& tile, u32 thread, const i32* twiddles, const Prime& p) {
    typedef Plan<STAGES, RADIX> Stages;
    constexpr int K = Stages::stages(PASS), BEFORE = Stages::before(PASS);
    constexpr u32 STRIDE = 1u << BEFORE, THREADS = 1u << (STAGES - RADIX);
    constexpr bool FIRST = PASS == 0, LAST = PASS == Stages::passes - 1;
    if (!FIRST) __syncthreads();
#pragma unroll
    for (int g = 0; g < 1 << (RADIX - K); g++) {
        u32 number = thread + g * THREADS, block = number / STRIDE, offset = number % STRIDE;
        u32 base = block * (STRIDE << K) + offset;
        i32 x[1 << K];
        if constexpr (FIRST && STRIDE == 1 && Tile::RUNS) {
            tile.load_run(base, x);
        } else {
#pragma unroll
            for (int e = 0; e < 1 << K; e++) {
                x[e] = FIRST ? tile.load(base + e * STRIDE, e) : tile.get(base + e * STRIDE);
            }
        }
#pragma unroll
        for (int k = 0; k < K; k++) {
            const i32* row = twiddles + (STRIDE << k) + offset;
#pragma unroll
            for (int e = 0; e < 1 << (K - 1); e++) {
                int half = 1 << k, low = e / half * 2 * half + e % half;
                butterfly(x[low], x[low + half], row[(e % half) * STRIDE], p);
            }
        }
        if constexpr (LAST && STRIDE == 1 && Tile::RUNS) {
            tile.store_run(base, x, g << K);
        } else {
#pragma unroll
            for (int e = 0; e < 1 << K; e++) {
                if constexpr (LAST) {
                    tile.store(base + e * STRIDE, x[e]);
                } else {
                    tile.put(base + e * STRIDE, x[e]);
                }
            }
        }
    }
}

// All passes. A thread's points have numbers, which `load` in the first pass and `store_run` in the last are told besides their places.
// Tiles with RUNS take and give neighbouring points together, as rows in memory do: 16 bytes at a time instead of 4.
// At most three: STAGES <= 9 with RADIX >= 3.
template <int STAGES, int RADIX, class Tile>
HERON_DEVICE void forward_transform(Tile& tile, u32 thread, u32 root, const i32* twiddles, const Prime& p) {
    constexpr int PASSES = Plan<STAGES, RADIX>::passes;
    forward_pass<STAGES, RADIX, 0>(tile, thread, root, twiddles, p);
    if constexpr (PASSES > 1) forward_pass<STAGES, RADIX, 1>(tile, thread, root, twiddles, p);
    if constexpr (PASSES > 2) forward_pass<STAGES, RADIX, 2>(tile, thread, root, twiddles, p);
    static_assert(PASSES <= 3, "three passes");
}

template <int STAGES, int RADIX, class Tile>
HERON_DEVICE void backward_transform(Tile& tile, u32 thread, const i32* twiddles, const Prime& p) {
    constexpr int PASSES = Plan<STAGES, RADIX>::passes;
    backward_pass<STAGES, RADIX, 0>(tile, thread, twiddles, p);
    if constexpr (PASSES > 1) backward_pass<STAGES, RADIX, 1>(tile, thread, twiddles, p);
    if constexpr (PASSES > 2) backward_pass<STAGES, RADIX, 2>(tile, thread, twiddles, p);
    static_assert(PASSES <= 3, "three passes");
}
