// Sums of products: 64-bit sums, one reduction.
#pragma once
#include "ring.cuh"

// Most terms of one launch; the host adds what further launches make.
#define MAX_TERMS 32

// (Σ a b, Σ a c) over terms, on the limbs of the result.
struct ProductArgs {
    const Prime* primes;
    u32* low;
    // Null: only the first sum.
    u32* high;
    // Word y of row r: where limb y of the result is in a polynomial of layout r.
    const u16* layouts;
    u32 log_n, terms, limbs;
    // Whether sums are added to what is in the result.
    u32 accumulate;
    const u32* a[MAX_TERMS];
    const u32* b[MAX_TERMS];
    const u32* c[MAX_TERMS];
    unsigned char a_layout[MAX_TERMS];
    unsigned char b_layout[MAX_TERMS];
    unsigned char c_layout[MAX_TERMS];
    // a repeats every word 2^run times; only one of them is there.
    unsigned char run[MAX_TERMS];
    u16 prime[MAX_LIMBS];
};

HERON_DEVICE void inner_products(const ProductArgs& args) {
    u32 limb = blockIdx.y, log_n = args.log_n, i = (blockIdx.x * blockDim.x + threadIdx.x) * 4;
    if (i >> log_n) return;
    const Prime p = args.primes[args.prime[limb]];
    u64 low[4] = {}, high[4] = {};
    for (u32 t = 0; t < args.terms; t++) {
        u32 run = args.run[t], log_a = log_n - run;
        u32 a_at = args.layouts[args.a_layout[t] * args.limbs + limb];
        u32 b_at = args.layouts[args.b_layout[t] * args.limbs + limb];
        const u32* from = args.a[t] + ((u64)a_at << log_a);
        Four a, b = load_four(args.b[t] + ((u64)b_at << log_n) + i), c = {};
        if (run == 0) {
            a = load_four(from + i);
        } else {
#pragma unroll
            for (u32 k = 0; k < 4; k++) a.at[k] = from[(i + k) >> run];
        }
        if (args.high) {
            u32 c_at = args.layouts[args.c_layout[t] * args.limbs + limb];
            c = load_four(args.c[t] + ((u64)c_at << log_n) + i);
        }
#pragma unroll
        for (u32 k = 0; k < 4; k++) {
            low[k] += wide(a.at[k], b.at[k]);
            high[k] += wide(a.at[k], c.at[k]);
        }
    }
    u64 at = ((u64)limb << log_n) + i;
    Four before = {}, to;
    if (args.accumulate) before = load_four(args.low + at);
#pragma unroll
    for (u32 k = 0; k < 4; k++) to.at[k] = add(reduce(low[k], p), before.at[k], p.q);
    store_four(args.low + at, to);
    if (!args.high) return;
    if (args.accumulate) before = load_four(args.high + at);
#pragma unroll
    for (u32 k = 0; k < 4; k++) to.at[k] = add(reduce(high[k], p), before.at[k], p.q);
    store_four(args.high + at, to);
}
