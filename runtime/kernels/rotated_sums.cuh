// The first half of a linear map in one launch: rotations of a ciphertext are made word by word, multiplied by diagonals and summed for every giant
// step, and never reach memory. The ciphertexts of a batch lie side by side in a block: keys and diagonals, which they share, reach the
// multiprocessor once.
#pragma once
#include "key_product.cuh"

// Most rotations, giant steps and ciphertexts of one launch.
#define MAX_BABIES 16
#define MAX_GIANTS 8
#define MAX_MAPPED 4

// One rotation X -> X^element, by a key as in `KeyUse`; without one, the ciphertext as it is.
struct Baby {
    const u32* key;
    const u16* places;
    u32 stored_limbs;
    u32 element;
};

// y = limb of QP; a block has as many threads for each ciphertext. For each giant step: Σ diagonal · factor · rotation(c0, c1).
struct RotatedSumsArgs {
    Ring ring;
    // Of each ciphertext c1 on the limbs of the row, all its digits, finished, and c0.
    const u32* original[MAX_MAPPED];
    const u32* digits_at[MAX_MAPPED];
    const u32* first[MAX_MAPPED];
    // As in `KeyProductArgs`; then [2][limb of QP]: where the limb is in c0 and in c1, or absent.
    const u16* digit_places;
    const u16* half_places;
    // [layout][limb of QP]: where the limb is in a diagonal.
    const u16* layouts;
    u32 babies, digits, limbs, batch;
    Baby baby[MAX_BABIES];
    // Null where a giant step has no term with the baby.
    const u32* diagonal[MAX_BABIES][MAX_GIANTS];
    unsigned char layout[MAX_BABIES][MAX_GIANTS];
    // The diagonal repeats every word 2^run times; only one of them is there.
    unsigned char run[MAX_BABIES][MAX_GIANTS];
    // [ciphertext][giant step]; null beyond the last.
    u32* low[MAX_MAPPED][MAX_GIANTS];
    u32* high[MAX_MAPPED][MAX_GIANTS];
    u16 prime[MAX_LIMBS];
    u32 factor[MAX_LIMBS];
    u32 quotient[MAX_LIMBS];
};

// Words of one thread.
#define ROTATED_WORDS 2

// The word of one half of the ciphertext, times the factor.
HERON_DEVICE u32 half_word(const RotatedSumsArgs& args, const u32* from, u32 place, u32 limb, u32 i, const Prime& p) {
    if (place == ABSENT) return 0;
    u32 word = from[((u64)place << args.ring.log_n) + i];
    return fold(shoup(word, args.factor[limb], args.quotient[limb], p.q), p.q);
}

HERON_DEVICE void rotated_sums(const RotatedSumsArgs& args) {
    u32 threads = blockDim.x / args.batch, ciphertext = threadIdx.x / threads;
    u32 limb = blockIdx.y, log_n = args.ring.log_n, from_which = BATCH_NUMBER(ciphertext);
    // A warp's words are neighbours: an automorphism gathers them from one aligned block.
    u32 i = blockIdx.x * ROTATED_WORDS * threads + threadIdx.x % threads;
    const Prime p = args.ring.primes[args.prime[limb]];
    const u32* c0 = args.first[ciphertext];
    const u32* c1 = args.original[ciphertext];
    u32 place0 = args.half_places[limb], place1 = args.half_places[args.limbs + limb];
    u64 low[MAX_GIANTS][ROTATED_WORDS] = {}, high[MAX_GIANTS][ROTATED_WORDS] = {};
    for (u32 b = 0; b < args.babies; b++) {
        const Baby& baby = args.baby[b];
        u32 at[ROTATED_WORDS], turned0[ROTATED_WORDS], turned1[ROTATED_WORDS];
#pragma unroll
        for (int k = 0; k < ROTATED_WORDS; k++) {
            at[k] = turned(i + k * threads, baby.element, log_n);
            turned0[k] = half_word(args, c0, place0, limb, at[k], p);
        }
        if (baby.key) {
            u64 sum0[ROTATED_WORDS] = {}, sum1[ROTATED_WORDS] = {};
            u32 stored = baby.places[args.digits + limb];
            for (u32 d = 0; d < args.digits; d++) {
                u32 place = args.digit_places[d * args.limbs + limb];
                const u32* from = place & IN_ORIGINAL ? args.original[from_which] : args.digits_at[from_which];
                from += (u64)(place & ~IN_ORIGINAL) << log_n;
                const u32* key = baby.key + (((u64)baby.places[d] * 2 * baby.stored_limbs + stored) << log_n);
                const u32* other = key + ((u64)baby.stored_limbs << log_n);
#pragma unroll
                for (int k = 0; k < ROTATED_WORDS; k++) {
                    u32 x = from[at[k]];
                    sum0[k] += wide(x, key[at[k]]);
                    sum1[k] += wide(x, other[at[k]]);
                }
            }
#pragma unroll
            for (int k = 0; k < ROTATED_WORDS; k++) {
                turned0[k] = add(turned0[k], reduce(sum0[k], p), p.q);
                turned1[k] = reduce(sum1[k], p);
            }
        } else {
#pragma unroll
            for (int k = 0; k < ROTATED_WORDS; k++) turned1[k] = half_word(args, c1, place1, limb, at[k], p);
        }
#pragma unroll
        for (int s = 0; s < MAX_GIANTS; s++) {
            const u32* diagonal = args.diagonal[b][s];
            if (!diagonal) continue;
            u32 run = args.run[b][s];
            diagonal += (u64)args.layouts[args.layout[b][s] * args.limbs + limb] << (log_n - run);
#pragma unroll
            for (int k = 0; k < ROTATED_WORDS; k++) {
                u32 a = diagonal[(i + k * threads) >> run];
                low[s][k] += wide(a, turned0[k]);
                high[s][k] += wide(a, turned1[k]);
            }
        }
    }
    u64 to = ((u64)limb << log_n) + i;
#pragma unroll
    for (int s = 0; s < MAX_GIANTS; s++) {
        if (!args.low[ciphertext][s]) continue;
#pragma unroll
        for (int k = 0; k < ROTATED_WORDS; k++) {
            args.low[ciphertext][s][to + k * threads] = reduce(low[s][k], p);
            args.high[ciphertext][s][to + k * threads] = reduce(high[s][k], p);
        }
    }
}
