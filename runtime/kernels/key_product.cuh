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
    const KeyUse& use = args.use[blockIdx.z];
    u32 limb = blockIdx.y, log_n = args.ring.log_n, i = (blockIdx.x * blockDim.x + threadIdx.x) * 4;
    if (i >> log_n) return;
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
    u64 base = (u64)limb << log_n;
    Four to[2];
#pragma unroll
    for (u32 k = 0; k < 4; k++) {
        to[0].at[k] = add(reduce(low[k], p), addend_word(args, 0, limb, i + k, p), p.q);
        to[1].at[k] = add(reduce(high[k], p), addend_word(args, 1, limb, i + k, p), p.q);
    }
    if (use.turn == 1 && !args.accumulate) {
        store_four(use.low + base + i, to[0]);
        store_four(use.high + base + i, to[1]);
        return;
    }
    // An automorphism takes aligned blocks to aligned blocks, so these stores fill the sectors they touch.
#pragma unroll
    for (u32 k = 0; k < 4; k++) {
        u64 at = base + turned(i + k, use.turn, log_n);
        u32 before_low = args.accumulate ? use.low[at] : 0, before_high = args.accumulate ? use.high[at] : 0;
        use.low[at] = add(before_low, to[0].at[k], p.q);
        use.high[at] = add(before_high, to[1].at[k], p.q);
    }
}
