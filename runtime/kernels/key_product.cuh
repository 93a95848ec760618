// The inner product of a key switch: digits times both halves of a key, on every limb of QP. The ciphertexts of a batch lie side by side in a
// block: the words of the key, which they share, reach the multiprocessor once.
#pragma once
#include "ring.cuh"

// Most digits, and most rotations of one launch.
#define MAX_DIGITS 32
#define MAX_ROTATIONS 32
// Most pairs of products of one launch: rotations times ciphertexts.
#define MAX_PRODUCTS 32

// One key and where its products go.
struct KeyUse {
    // [stored digit][b, a][stored limb][N].
    const u32* key;
    // [live digit]: stored digit; then [limb of QP]: stored limb.
    const u16* places;
    u32 stored_limbs;
    // Word i of the products goes to word turned(i, turn): the inverse of the automorphism to apply, or 1.
    u32 turn;
};

// z = rotation; y = limb of QP; a block has as many threads for each ciphertext, one ciphertext after the other. products = Σ_digits digit · key + addend · factor.
struct KeyProductArgs {
    Ring ring;
    // Of each ciphertext the polynomial that was decomposed, on the limbs of the row, and all its digits.
    const u32* original[MAX_BATCH];
    const u32* digits_at[MAX_BATCH];
    // [live digit][limb of QP]: where the limb is among the digits, or, with the top bit, in the original.
    const u16* digit_places;
    // Added to the two halves, times the factor: where they are not null and have the limb.
    const u32* addend[MAX_BATCH][2];
    // [2][limb of QP].
    const u16* addend_places;
    // What the products are added to.
    u32 accumulate;
    u32 digits, limbs, batch;
    KeyUse use[MAX_ROTATIONS];
    // [rotation][ciphertext].
    u32* low[MAX_PRODUCTS];
    u32* high[MAX_PRODUCTS];
    u16 prime[MAX_LIMBS];
    // Constants and their Shoup quotients.
    u32 factor[MAX_LIMBS];
    u32 quotient[MAX_LIMBS];
};

#define IN_ORIGINAL 0x8000

// Which ciphertext's digits a thread reads; another choice is a mistake that tests must notice.
#ifndef BATCH_NUMBER
#define BATCH_NUMBER(number) (number)
#endif

// What a product's word starts with: the addend times its factor, canonical.
HERON_DEVICE u32 addend_word(const KeyProductArgs& args, u32 ciphertext, u32 half, u32 limb, u32 i, const Prime& p) {
    const u32* addend = args.addend[ciphertext][half];
    if (!addend) return 0;
    u32 at = args.addend_places[half * args.limbs + limb];
    if (at == ABSENT) return 0;
    u32 word = addend[((u64)at << args.ring.log_n) + i];
    return fold(shoup(word, args.factor[limb], args.quotient[limb], p.q), p.q);
}

HERON_DEVICE void key_product(const KeyProductArgs& args) {
    HERON_SHARED(u32, shared);
    const KeyUse& use = args.use[blockIdx.z];
    u32 threads = blockDim.x / args.batch, ciphertext = threadIdx.x / threads, thread = threadIdx.x % threads;
    // The block's words are an aligned block of the limb, no further than its end.
    u32 words = 4 * threads, first = blockIdx.x * words;
    u32 limb = blockIdx.y, log_n = args.ring.log_n, i = first + 4 * thread;
    u32 from_which = BATCH_NUMBER(ciphertext), product = blockIdx.z * args.batch + ciphertext;
    shared += 2 * words * ciphertext;
    const Prime p = args.ring.primes[args.prime[limb]];
    u64 low[4] = {}, high[4] = {};
    u32 stored = use.places[args.digits + limb];
    for (u32 d = 0; d < args.digits; d++) {
        u32 place = args.digit_places[d * args.limbs + limb];
        const u32* from = place & IN_ORIGINAL ? args.original[from_which] : args.digits_at[from_which];
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
        to[0].at[k] = add(reduce(low[k], p), addend_word(args, ciphertext, 0, limb, i + k, p), p.q);
        to[1].at[k] = add(reduce(high[k], p), addend_word(args, ciphertext, 1, limb, i + k, p), p.q);
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
        to[0] = load_four(shared + 4 * thread);
        to[1] = load_four(shared + words + 4 * thread);
        at = ((u64)limb << log_n) + turned(first, use.turn, log_n) / words * words + 4 * thread;
    }
#pragma unroll
    for (int half = 0; half < 2; half++) {
        u32* result = (half ? args.high[product] : args.low[product]) + at;
        Four before = {};
        if (args.accumulate) before = load_four(result);
#pragma unroll
        for (int k = 0; k < 4; k++) to[half].at[k] = add(before.at[k], to[half].at[k], p.q);
        store_four(result, to[half]);
    }
}
