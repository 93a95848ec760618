// The second half of the digits' forward transforms and their products with a key in one launch: the values of a digit are never in memory.
#pragma once
#include "key_product.cuh"
#include "ntt.cuh"

// As `key_product` for one key, with digits whose columns have been transformed. y = limb of QP; x = group of rows, which a block does for
// each ciphertext of the batch.
template <int STAGES>
HERON_DEVICE void rows_key_product(const KeyProductArgs& args) {
    HERON_SHARED(i32, shared);
    constexpr u32 COLUMNS = 1u << STAGES, THREADS = COLUMNS >> radix(STAGES);
    constexpr int POINTS = 1 << radix(STAGES);
    const KeyUse& use = args.use[0];
    u32 limb = blockIdx.y, log_n = args.ring.log_n, prime = args.prime[limb], thread = threadIdx.x % THREADS;
    const Prime p = args.ring.primes[prime];
    KeptRow<POINTS> tile;
    place_row<STAGES>(tile, shared, &p);
    u32 rows = blockDim.x / THREADS / args.batch, local = threadIdx.x / THREADS;
    u32 ciphertext = local / rows, row = blockIdx.x * rows + local % rows, first = row * COLUMNS;
    u32 from_which = BATCH_NUMBER(ciphertext);
    const i32* twiddles = args.ring.forward + ((u64)prime << log_n);
    u64 low[POINTS] = {}, high[POINTS] = {};
    u32 stored = use.places[args.digits + limb];
    for (u32 d = 0; d < args.digits; d++) {
        u32 place = args.digit_places[d * args.limbs + limb];
        const u32* from = place & IN_ORIGINAL ? args.original[from_which] : args.digits_at[from_which];
        from += ((u64)(place & ~IN_ORIGINAL) << log_n) + first;
        if (place & IN_ORIGINAL) {
#pragma unroll
            for (int k = 0; k < POINTS; k += 4) {
                Four words = load_four(from + row_place<STAGES>(thread, k));
#pragma unroll
                for (int j = 0; j < 4; j++) tile.kept[k + j] = words.at[j];
            }
        } else {
            tile.from = from;
            // The last digit's points have been read by all.
            __syncthreads();
            forward_transform<STAGES, radix(STAGES)>(tile, thread, (1u << args.ring.log_rows) + row, twiddles, p);
        }
        const u32* b = use.key + (((u64)use.places[d] * 2 * use.stored_limbs + stored) << log_n) + first;
        const u32* a = b + ((u64)use.stored_limbs << log_n);
#pragma unroll
        for (int k = 0; k < POINTS; k += 4) {
            u32 c = row_place<STAGES>(thread, k);
            Four y = load_four(b + c), z = load_four(a + c);
#pragma unroll
            for (int j = 0; j < 4; j++) {
                low[k + j] += wide(tile.kept[k + j], y.at[j]);
                high[k + j] += wide(tile.kept[k + j], z.at[j]);
            }
        }
    }
#pragma unroll
    for (int half = 0; half < 2; half++) {
        u32 words[POINTS];
#pragma unroll
        for (int k = 0; k < POINTS; k++) {
            u32 i = first + row_place<STAGES>(thread, k);
            words[k] = add(reduce(half ? high[k] : low[k], p), addend_word(args, ciphertext, half, limb, i, p), p.q);
        }
        u32* to = (half ? args.high[ciphertext] : args.low[ciphertext]) + ((u64)limb << log_n);
        write_row<STAGES>(tile, thread, words, to, first, use.turn, log_n, args.accumulate);
    }
}
