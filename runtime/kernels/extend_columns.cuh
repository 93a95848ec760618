// A basis extension and the first half of the forward transform of what it makes, in one launch: the extended limbs reach memory once
// instead of twice, and are not read back in between.
//
// A thread's points of the transform's first pass are its own coefficients, so the source words of those wait in shared memory in a place
// that no other thread touches, for a group of target limbs.
#pragma once
#include "extension.cuh"
#include "ntt.cuh"

// Columns whose points are made, not loaded.
template <int POINTS>
struct MadeColumns : ForwardColumns {
    i32 made[POINTS];
    HERON_DEVICE i32 load(u32, int e) const { return made[e]; }
};

template <int STAGES>
HERON_DEVICE void extend_columns(const ExtensionArgs& args) {
    HERON_SHARED(u32, shared);
    constexpr int RADIX = radix(STAGES), POINTS = 1 << RADIX;
    constexpr u32 ROWS = 1u << STAGES, THREADS = ROWS / POINTS;
    static_assert(Plan<STAGES, RADIX>::stages(0) == RADIX, "a thread has one group of points in the first pass");
    const Extension e = args.piece[blockIdx.z % args.pieces];
    u32 first = blockIdx.y * EXTENSION_GROUP;
    if (first >= e.targets) return;
    u32 poly = blockIdx.z / args.pieces, log_n = args.ring.log_n;
    MadeColumns<POINTS> tile;
    tile.columns = (1u << log_n) / ROWS;
    tile.width = blockDim.x / THREADS;
    tile.lane = threadIdx.x % tile.width;
    tile.shared = (i32*)shared;
    u32 thread = threadIdx.x / tile.width, column = blockIdx.x * tile.width + tile.lane;
    // Word e of source i: the coefficient in row thread + e · THREADS. The quotients come after the last source.
    u32* words = shared + ROWS * tile.width + threadIdx.x;
    u32 step = blockDim.x;
    const u32* from = args.from[poly] + ((u64)e.source << log_n) + thread * tile.columns + column;
    {
        u64 sums[POINTS];
#pragma unroll
        for (int k = 0; k < POINTS; k++) sums[k] = (u64)1 << (QUOTIENT_BITS - 1);
        for (u32 i = 0; i < e.sources; i++) {
#pragma unroll
            for (int k = 0; k < POINTS; k++) {
                u32 y = from[((u64)i << log_n) + k * THREADS * tile.columns];
                words[(i * POINTS + k) * step] = y;
                sums[k] += quotient_term(y, e.tables, i);
            }
        }
#pragma unroll
        for (int k = 0; k < POINTS; k++) words[(e.sources * POINTS + k) * step] = (u32)(sums[k] >> QUOTIENT_BITS);
    }
    const u32* rows = e.tables + 2 * e.sources;
    u32 last = least(first + EXTENSION_GROUP, e.targets);
    for (u32 t = first; t < last; t++) {
        u32 prime = args.prime[e.target + t];
        const Prime p = args.ring.primes[prime];
        const u32* row = rows + t * (e.sources + 1u);
        u64 sums[POINTS];
#pragma unroll
        for (int k = 0; k < POINTS; k++) sums[k] = wide(words[(e.sources * POINTS + k) * step], row[0]);
        for (u32 i = 0; i < e.sources; i++) {
            u32 weight = row[1 + i];
#pragma unroll
            for (int k = 0; k < POINTS; k++) sums[k] += wide(words[(i * POINTS + k) * step], weight);
        }
#pragma unroll
        for (int k = 0; k < POINTS; k++) tile.made[k] = (i32)extended(sums[k], p);
        tile.p = &p;
        tile.to = args.to[poly] + ((u64)(e.target + t) << log_n) + column;
        // The last target's points have been read by all.
        __syncthreads();
        const i32* twiddles = args.ring.forward + ((u64)prime << log_n);
        forward_transform<STAGES, RADIX>(tile, thread, 1, twiddles, p);
    }
}
