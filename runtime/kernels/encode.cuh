// Plaintexts from integer coefficients: residues of every limb, and the transform of those that repeat. The host sends the coefficients, not the
// residues: 8 bytes each instead of 4 for every limb.
#pragma once
#include "passes.cuh"

// Plaintexts of one shape that are in the making, y = plaintext: [plaintext][limb][2^log_words].
struct EncodeArgs {
    const Prime* primes;
    // `Ring::forward`.
    const i32* forward;
    // [plaintext][word][coefficient], lowest words first.
    const u32* from;
    u32* to;
    u32 log_n;
    // log2 of the words of a limb: fewer than N for a polynomial in a power of X.
    u32 log_words;
    // Coefficient k is at word k · 2^log_gap; between them are zeros.
    u32 log_gap;
    // Words of a coefficient, at most 4, in two's complement.
    u32 words;
    u32 limbs, unused;
    u16 prime[MAX_LIMBS];
};

// A coefficient's size is below 2^(32 words - 2): with this added to its last word it is not negative.
#define OFFSET_WORD (1u << 30)

// The residue of a number of up to four words.
HERON_DEVICE u32 residue_of(const u32 (&word)[4], u32 words, const Prime& p) {
    u32 value = 0;
#pragma unroll
    for (int w = 3; w >= 0; w--) {
        if ((u32)w < words) value = reduce(wide(value, p.radix) + word[w], p);
    }
    return value;
}

// One coefficient on every limb; canonical.
HERON_DEVICE void residues(const EncodeArgs& args) {
    u32 i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i >> args.log_words) return;
    u32 log_count = args.log_words - args.log_gap;
    const u32* from = args.from + ((u64)blockIdx.y * args.words << log_count) + (i >> args.log_gap);
    u32* to = args.to + ((u64)blockIdx.y * args.limbs << args.log_words) + i;
    bool between = i & ((1u << args.log_gap) - 1);
    u32 word[4], offset[4];
#pragma unroll
    for (int w = 0; w < 4; w++) {
        bool there = (u32)w < args.words && !between;
        offset[w] = (u32)w + 1 == args.words ? OFFSET_WORD : 0;
        word[w] = offset[w] + (there ? from[(u64)w << log_count] : 0);
    }
    for (u32 limb = 0; limb < args.limbs; limb++) {
        const Prime p = args.primes[args.prime[limb]];
        u32 residue = subtract(residue_of(word, args.words, p), residue_of(offset, args.words, p), p.q);
        to[(u64)limb << args.log_words] = between ? 0 : residue;
    }
}

// Coefficients to values of a polynomial in Y = X^(2^(log_n - log_words)), in place: a block does one limb of one. The table's first entries are the
// smaller ring's, as reverse() of an index over more bits is that over fewer times the power that Y is.
HERON_DEVICE void small_transform(const EncodeArgs& args) {
    HERON_SHARED(i32, points);
    u32 limb = blockIdx.x, prime = args.prime[limb], words = 1u << args.log_words;
    const Prime p = args.primes[prime];
    const i32* twiddles = args.forward + ((u64)prime << args.log_n);
    u32* at = args.to + (((u64)blockIdx.y * args.limbs + limb) << args.log_words);
    for (u32 i = threadIdx.x; i < words; i += blockDim.x) points[i] = (i32)at[i];
    for (u32 stage = 0; stage < args.log_words; stage++) {
        u32 log_half = args.log_words - 1 - stage;
        __syncthreads();
        for (u32 k = threadIdx.x; k < words / 2; k += blockDim.x) {
            u32 block = k >> log_half, low = (block << (log_half + 1)) + (k & ((1u << log_half) - 1));
            u32 high = low + (1u << log_half);
            // Within 3/2 q before a stage, 9/4 q after it.
            i32 u = barrett(points[low], p), v = points[high];
            butterfly(u, v, twiddles[(1u << stage) + block], p);
            points[low] = u;
            points[high] = v;
        }
    }
    __syncthreads();
    for (u32 i = threadIdx.x; i < words; i += blockDim.x) at[i] = canonical(barrett(points[i], p), p.q);
}
