// The middle of a key switch in one launch: the second half of the backward transform of some limbs, their extension to other primes, and
// the first half of the forward transform of what that makes. A block owns some columns of every limb it reads or makes, so coefficients
// are never in memory.
//
// A thread ends the backward transform of a column with the coefficients of the very rows that it begins the forward one with, so the source
// words wait in shared memory in places that no other thread touches, for a group of target limbs.
#pragma once
#include "extension.cuh"
#include "ntt.cuh"

// Columns whose points are made, not loaded.
template <int POINTS>
struct MadeColumns : ForwardColumns {
    i32 made[POINTS];
    HERON_DEVICE i32 load(u32, int e) const { return made[e]; }
};

// Columns of a source limb, whose coefficients go to the thread's own words: number k is row thread + k · THREADS.
template <int STAGES>
struct SourceColumns : ColumnTile {
    static constexpr u32 THREADS = (1u << STAGES) >> radix(STAGES);
    u32* words;
    u32 step;
    const i32* untwist;
    i32 factor;
    HERON_DEVICE i32 load(u32 r, int) const { return (i32)from[r * columns]; }
    HERON_DEVICE void store(u32 r, i32 x) {
        i32 last = centred(montgomery(untwist[r], factor, *p), p->q);
        words[r / THREADS * step] = canonical(montgomery(x, last, *p), p->q);
    }
};

template <int STAGES>
HERON_DEVICE void extend_columns(const ExtensionArgs& args) {
    HERON_SHARED(u32, shared);
    constexpr int RADIX = radix(STAGES), POINTS = 1 << RADIX;
    constexpr u32 ROWS = 1u << STAGES, THREADS = ROWS / POINTS;
    static_assert(Plan<STAGES, RADIX>::stages(0) == RADIX, "a thread has one group of points in the first pass");
    const Extension e = args.piece[blockIdx.z % args.pieces];
    u32 first = blockIdx.y * args.group;
    if (first >= e.targets) return;
    u32 poly = blockIdx.z / args.pieces, log_n = args.ring.log_n;
    MadeColumns<POINTS> tile;
    tile.columns = (1u << log_n) / ROWS;
    tile.width = blockDim.x / THREADS;
    tile.lane = threadIdx.x % tile.width;
    tile.shared = (i32*)shared;
    u32 thread = threadIdx.x / tile.width, column = blockIdx.x * tile.width + tile.lane;
    // Word k of source i: the coefficient in row thread + k · THREADS. The quotients come after the last source.
    u32* words = shared + ROWS * tile.width + threadIdx.x;
    u32 step = blockDim.x;
    {
        SourceColumns<STAGES> source;
        source.columns = tile.columns;
        source.width = tile.width;
        source.lane = tile.lane;
        source.shared = tile.shared;
        source.step = step;
        for (u32 i = 0; i < e.sources; i++) {
            u32 prime = args.source_prime[e.source + i];
            const Prime p = args.ring.primes[prime];
            source.p = &p;
            source.from = args.from[poly] + ((u64)(e.source + i) << log_n) + column;
            source.words = words + i * POINTS * step;
            source.untwist = args.ring.untwist + prime * ROWS;
            source.factor = args.source_factor[e.source + i];
            // The last limb's points have been read by all.
            __syncthreads();
            const i32* twiddles = args.ring.inverse + ((u64)prime << (log_n - STAGES));
            backward_transform<STAGES, RADIX>(source, thread, twiddles, p);
        }
    }
    {
        u64 sums[POINTS];
#pragma unroll
        for (int k = 0; k < POINTS; k++) sums[k] = (u64)1 << (QUOTIENT_BITS - 1);
        for (u32 i = 0; i < e.sources; i++) {
#pragma unroll
            for (int k = 0; k < POINTS; k++) sums[k] += quotient_term(words[(i * POINTS + k) * step], e.tables, i);
        }
#pragma unroll
        for (int k = 0; k < POINTS; k++) words[(e.sources * POINTS + k) * step] = (u32)(sums[k] >> QUOTIENT_BITS);
    }
    const u32* rows = e.tables + 2 * e.sources;
    u32 last = least(first + args.group, e.targets);
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
