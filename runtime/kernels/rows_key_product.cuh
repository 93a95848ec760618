// The second half of the digits' forward transforms and their products with a key in one launch: the values of a digit are never in memory.
#pragma once
#include "key_product.cuh"
#include "ntt.cuh"

// A row whose values stay in registers, by number.
template <int POINTS>
struct KeptRow : RowTile {
    u32 kept[POINTS];
    HERON_DEVICE i32 load(u32 c, int) const { return (i32)from[c]; }
    HERON_DEVICE void store(u32, i32 x, int number) { kept[number] = canonical(barrett(x, *p), p->q); }
};

// Where in its row a thread finds point `number` after the last pass, which works on runs of 2^K neighbours.
template <int STAGES>
HERON_DEVICE u32 row_place(u32 thread, int number) {
    typedef Plan<STAGES, radix(STAGES)> Stages;
    constexpr int K = Stages::stages(Stages::passes - 1);
    constexpr u32 THREADS = 1u << (STAGES - radix(STAGES));
    return ((thread + ((u32)number >> K) * THREADS) << K) + ((u32)number & ((1u << K) - 1));
}

// As `key_product` for one key, with digits whose columns have been transformed. y = limb of QP; x = group of rows.
template <int STAGES>
HERON_DEVICE void rows_key_product(const KeyProductArgs& args) {
    HERON_SHARED(i32, shared);
    constexpr u32 COLUMNS = 1u << STAGES, THREADS = COLUMNS >> radix(STAGES);
    constexpr int POINTS = 1 << radix(STAGES);
    const KeyUse& use = args.use[0];
    u32 limb = blockIdx.y, log_n = args.ring.log_n, prime = args.prime[limb], thread = threadIdx.x % THREADS;
    const Prime p = args.ring.primes[prime];
    KeptRow<POINTS> tile;
    u32 row = place_row<STAGES>(tile, shared, &p), first = row * COLUMNS;
    const i32* twiddles = args.ring.forward + ((u64)prime << log_n);
    u64 low[POINTS] = {}, high[POINTS] = {};
    u32 stored = use.places[args.digits + limb];
    for (u32 d = 0; d < args.digits; d++) {
        u32 place = args.digit_places[d * args.limbs + limb];
        const u32* from = place & IN_ORIGINAL ? args.original : args.digit[d];
        from += ((u64)(place & ~IN_ORIGINAL) << log_n) + first;
        if (place & IN_ORIGINAL) {
#pragma unroll
            for (int k = 0; k < POINTS; k++) tile.kept[k] = from[row_place<STAGES>(thread, k)];
        } else {
            tile.from = from;
            // The last digit's points have been read by all.
            __syncthreads();
            forward_transform<STAGES, radix(STAGES)>(tile, thread, (1u << args.ring.log_rows) + row, twiddles, p);
        }
        const u32* b = use.key + (((u64)use.places[d] * 2 * use.stored_limbs + stored) << log_n) + first;
        const u32* a = b + ((u64)use.stored_limbs << log_n);
#pragma unroll
        for (int k = 0; k < POINTS; k++) {
            u32 c = row_place<STAGES>(thread, k);
            low[k] += wide(tile.kept[k], b[c]);
            high[k] += wide(tile.kept[k], a[c]);
        }
    }
    u64 base = (u64)limb << log_n;
#pragma unroll
    for (int k = 0; k < POINTS; k++) {
        u32 i = first + row_place<STAGES>(thread, k);
        u64 at = base + (use.turn == 1 ? i : turned(i, use.turn, log_n));
        u32 before_low = args.accumulate ? use.low[at] : 0, before_high = args.accumulate ? use.high[at] : 0;
        u32 sum = add(reduce(low[k], p), addend_word(args, 0, limb, i, p), p.q);
        use.low[at] = add(before_low, sum, p.q);
        sum = add(reduce(high[k], p), addend_word(args, 1, limb, i, p), p.q);
        use.high[at] = add(before_high, sum, p.q);
    }
}
