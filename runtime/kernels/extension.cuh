// Basis extension: residues modulo some primes become residues modulo others. The rule, quotient included, is that of the host's
// `ring/extension.rs`: u = floor(1/2 + sum_i y_i reciprocal_i / 2^57), result = sum_i y_i weight_i + u correction modulo the target.
#pragma once
#include "ring.cuh"

#ifndef QUOTIENT_BITS
#define QUOTIENT_BITS 57
#endif

// Most digits one launch extends.
#define MAX_PIECES 32

// Tables of one pair of bases, as one run of words: `reciprocal`, 2 words each, then per target limb `correction` and the weights.
struct Extension {
    const u32* tables;
    u16 sources, targets;
    // First limbs of this piece in the source and in the target.
    u16 source, target;
};

// z = piece + pieces · polynomial; y = group of targets.
struct ExtensionArgs {
    Ring ring;
    const u32* from[MAX_BATCH];
    u32* to[MAX_BATCH];
    // Prime of each target limb of all pieces.
    const u16* prime;
    u32 pieces;
    // Target limbs a thread makes from one set of source words.
    u32 group;
    Extension piece[MAX_PIECES];
    // Where the sources still lack the second half of their backward transform: their primes, and what they are multiplied by, besides 1/N, in
    // Montgomery form, centred.
    u16 source_prime[MAX_LIMBS];
    i32 source_factor[MAX_LIMBS];
};

// y times reciprocal i. A residue times its reciprocal is below 2^57 + 2^29, and at most 64 of them are summed.
HERON_DEVICE u64 quotient_term(u32 y, const u32* tables, u32 i) {
    return y * ((u64)tables[2 * i] | (u64)tables[2 * i + 1] << 32);
}

// The sum as a canonical residue: k products below q 2^28 reduce to less than (k/16 + 1) q, with u's a little more; 64 stay below 6 q.
HERON_DEVICE u32 extended(u64 sum, const Prime& p) {
    return fold(fold(fold(montgomery_wide(sum, p), 4 * p.q), 2 * p.q), p.q);
}

// A thread takes one coefficient: its source words wait in shared memory, in a column that no other thread touches.
HERON_DEVICE void extend(const ExtensionArgs& args) {
    HERON_SHARED(u32, shared);
    const Extension e = args.piece[blockIdx.z % args.pieces];
    u32 first = blockIdx.y * args.group, j = blockIdx.x * blockDim.x + threadIdx.x;
    if (first >= e.targets || j >> args.ring.log_n) return;
    u32 poly = blockIdx.z / args.pieces, log_n = args.ring.log_n;
    const u32* from = args.from[poly] + ((u64)e.source << log_n) + j;
    u32* to = args.to[poly] + ((u64)e.target << log_n) + j;
    const u32* tables = e.tables;
    u32* column = shared + threadIdx.x;
    u64 sum = (u64)1 << (QUOTIENT_BITS - 1);
    for (u32 i = 0; i < e.sources; i++) {
        u32 y = from[(u64)i << log_n];
        column[i * blockDim.x] = y;
        sum += quotient_term(y, tables, i);
    }
    u32 u = (u32)(sum >> QUOTIENT_BITS);
    tables += 2 * e.sources;
    u32 last = least(first + args.group, e.targets);
    for (u32 t = first; t < last; t++) {
        const Prime p = args.ring.primes[args.prime[e.target + t]];
        const u32* row = tables + t * (e.sources + 1u);
        u64 total = wide(u, row[0]);
        for (u32 i = 0; i < e.sources; i++) total += wide(column[i * blockDim.x], row[1 + i]);
        to[(u64)t << log_n] = extended(total, p);
    }
}
