// The inner product of a key switch: digits times both halves of a key, on every limb of QP.
#pragma once
#include "ring.cuh"

// Most digits, and most rotations of one launch.
#define MAX_DIGITS 32
#define MAX_ROTATIONS 32

// One key and where its products go.
struct KeyUse {
    // [stored digit][b, a][stored limb][N].
    const u32* key;
    u32* low;
    u32* high;
    // [live digit]: stored digit; then [limb of QP]: stored limb.
    const u16* places;
    u32 stored_limbs;
    // Word i of the products goes to word turned(i, turn): the inverse of the automorphism to apply, or 1.
    u32 turn;
};

// z = rotation; y = limb of QP. products = Σ_digits digit · key + addend · factor.
struct KeyProductArgs {
    Ring ring;
    // The polynomial that was decomposed, on the limbs of the row.
    const u32* original;
    const u32* digit[MAX_DIGITS];
    // [live digit][limb of QP]: where the limb is in the digit, or, with the top bit, in the original.
    const u16* digit_places;
    // Added to the two halves, times the factor: where they are not null and have the limb.
    const u32* addend[2];
    // [2][limb of QP].
    const u16* addend_places;
    // What the products are added to.
    u32 accumulate;
    u32 digits, limbs;
    u32 unused;
    KeyUse use[MAX_ROTATIONS];
    u16 prime[MAX_LIMBS];
    // Constants and their Shoup quotients.
    u32 factor[MAX_LIMBS];
    u32 quotient[MAX_LIMBS];
};

#define IN_ORIGINAL 0x8000

// What a product's word starts with: the addend times its factor, canonical.
HERON_DEVICE u32 addend_word(const KeyProductArgs& args, u32 half, u32 limb, u32 i, const Prime& p) {
    if (!args.addend[half]) return 0;
    u32 at = args.addend_places[half * args.limbs + limb];
    if (at == ABSENT) return 0;
    u32 word = args.addend[half][((u64)at << args.ring.log_n) + i];
    return fold(shoup(word, args.factor[limb], args.quotient[limb], p.q), p.q);
}

HERON_DEVICE void key_product(const KeyProductArgs& args) {
    HERON_SHARED(u32, shared);
    const KeyUse& use = args.use[blockIdx.z];
    // The block's words are an aligned block of the limb, no further than its end.
    u32 words = 4 * blockDim.x, first = blockIdx.x * words;
    u32 limb = blockIdx.y, log_n = args.ring.log_n, i = first + 4 * threadIdx.x;
    const Prime p = args.ring.primes[args.prime[limb]];
    u64 low[4] = {}, high[4] = {};
    u32 stored = use.places[args.digits + limb];
    for (u32 d = 0; d < args.digits; d++) {
        u32 place = args.digit_places[d * args.limbs + limb];
        const u32* from = place & IN_ORIGINAL ? args.original : args.digit[d];
        Four x = load_four(from + ((u64)(place & ~IN_ORIGINAL) << log_n) + i);
        const u32* key = use.key + (((u64)use.places[d] * 2 * use.stored_limbs + stored) << log_n) + i;
        Four b = load_four(key), a = load_four(key + ((u64)use.stored_limbs << log_n));
#pragma unroll
        for (u32 k = 0; k < 4; k++) {
            low[k] += wide(x.at[k], b.at[k]);
            high[k] += wide(x.at[k], a.at[k]);
        }
    }
    Four to[2];
#pragma unroll
    for (u32 k = 0; k < 4; k++) {
        to[0].at[k] = add(reduce(low[k], p), addend_word(args, 0, limb, i + k, p), p.q);
        to[1].at[k] = add(reduce(high[k], p), addend_word(args, 1, limb, i + k, p), p.q);
    }
    u64 at = ((u64)limb << log_n) + i;
    if (use.turn != 1) {
        // An automorphism takes aligned blocks to aligned blocks: the order within changes in shared memory.
#pragma unroll
        for (u32 k = 0; k < 4; k++) {
            u32 place = turned(i + k, use.turn, log_n) % words;
            shared[place] = to[0].at[k];
            shared[words + place] = to[1].at[k];
        }
        __syncthreads();
        to[0] = load_four(shared + 4 * threadIdx.x);
        to[1] = load_four(shared + words + 4 * threadIdx.x);
        at = ((u64)limb << log_n) + turned(first, use.turn, log_n) / words * words + 4 * threadIdx.x;
    }
#pragma unroll
    for (int half = 0; half < 2; half++) {
        u32* result = (half ? use.high : use.low) + at;
        Four before = {};
        if (args.accumulate) before = load_four(result);
#pragma unroll
        for (int k = 0; k < 4; k++) to[half].at[k] = add(before.at[k], to[half].at[k], p.q);
        store_four(result, to[half]);
    }
}
