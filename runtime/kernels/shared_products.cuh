// Several sums of products that share right-hand factors: the giant steps of a linear map, whose babies are read once for all. The ciphertexts of
// a batch lie side by side in a block: the left-hand factors, which they share, reach the multiprocessor once.
#pragma once
#include "ring.cuh"

// Most sums, and most shared pairs, of one launch.
#define MAX_SUMS 4
#define MAX_SHARED 32
// Most ciphertexts of one launch.
#define MAX_ALIKE 4

// For each sum s: (Σ a[s] b, Σ a[s] c) over the pairs (b, c), on the limbs of the results.
struct SharedProductsArgs {
    const Prime* primes;
    u32* low[MAX_ALIKE][MAX_SUMS];
    u32* high[MAX_ALIKE][MAX_SUMS];
    // Word y of row r: where limb y of the results is in a polynomial of layout r.
    const u16* layouts;
    u32 log_n, pairs, limbs;
    // Whether sums are added to what is in the results.
    u32 accumulate;
    u32 batch, unused;
    const u32* b[MAX_SHARED][MAX_ALIKE];
    const u32* c[MAX_SHARED][MAX_ALIKE];
    // Null where a sum has no term with the pair, and beyond the last sum.
    const u32* a[MAX_SHARED][MAX_SUMS];
    unsigned char b_layout[MAX_SHARED];
    unsigned char c_layout[MAX_SHARED];
    unsigned char a_layout[MAX_SHARED][MAX_SUMS];
    // a repeats every word 2^run times; only one of them is there.
    unsigned char run[MAX_SHARED][MAX_SUMS];
    u16 prime[MAX_LIMBS];
};

HERON_DEVICE Four shared_words(const SharedProductsArgs& args, const u32* from, u32 layout, u32 limb, u32 i) {
    return load_four(from + ((u64)args.layouts[layout * args.limbs + limb] << args.log_n) + i);
}

// A thread does four neighbouring words of one limb, for all sums.
HERON_DEVICE void shared_products(const SharedProductsArgs& args) {
    u32 threads = blockDim.x / args.batch, ciphertext = threadIdx.x / threads;
    u32 limb = blockIdx.y, log_n = args.log_n, i = (blockIdx.x * threads + threadIdx.x % threads) * 4;
    if (i >> log_n) return;
    const Prime p = args.primes[args.prime[limb]];
    u64 low[MAX_SUMS][4] = {}, high[MAX_SUMS][4] = {};
    for (u32 t = 0; t < args.pairs; t++) {
        Four b = shared_words(args, args.b[t][ciphertext], args.b_layout[t], limb, i);
        Four c = shared_words(args, args.c[t][ciphertext], args.c_layout[t], limb, i);
#pragma unroll
        for (int s = 0; s < MAX_SUMS; s++) {
            const u32* from = args.a[t][s];
            if (!from) continue;
            u32 run = args.run[t][s];
            from += (u64)args.layouts[args.a_layout[t][s] * args.limbs + limb] << (log_n - run);
            Four a;
            if (run == 0) {
                a = load_four(from + i);
            } else {
#pragma unroll
                for (u32 k = 0; k < 4; k++) a.at[k] = from[(i + k) >> run];
            }
#pragma unroll
            for (int k = 0; k < 4; k++) {
                low[s][k] += wide(a.at[k], b.at[k]);
                high[s][k] += wide(a.at[k], c.at[k]);
            }
        }
    }
    u64 at = ((u64)limb << log_n) + i;
#pragma unroll
    for (int s = 0; s < MAX_SUMS; s++) {
        if (!args.low[ciphertext][s]) continue;
#pragma unroll
        for (int half = 0; half < 2; half++) {
            u32* result = (half ? args.high[ciphertext][s] : args.low[ciphertext][s]) + at;
            Four before = {}, to;
            if (args.accumulate) before = load_four(result);
#pragma unroll
            for (int k = 0; k < 4; k++) to.at[k] = add(before.at[k], reduce(half ? high[s][k] : low[s][k], p), p.q);
            store_four(result, to);
        }
    }
}
