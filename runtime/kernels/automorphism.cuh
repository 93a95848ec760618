// a(X^g), in either form; each word of the result is gathered.
#pragma once
#include "ring.cuh"

struct AutomorphismArgs {
    const Prime* primes;
    u32* to;
    const u32* from;
    u32 log_n;
    // g for evaluation form, g^-1 modulo 2N for coefficient form.
    u32 element;
    u16 prime[MAX_LIMBS];
};

// Evaluation form: a permutation. Neighbouring words come from one aligned block, so the gather stays within few sectors.
HERON_DEVICE void automorphism_values(const AutomorphismArgs& args) {
    u32 i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i >> args.log_n) return;
    u64 limb = (u64)blockIdx.y << args.log_n;
    args.to[limb + i] = args.from[limb + turned(i, args.element, args.log_n)];
}

// Coefficient form: X^(k') of the result is X^(i g) for one i, with a sign where i g passes N an odd number of times.
HERON_DEVICE void automorphism_coefficients(const AutomorphismArgs& args) {
    u32 k = blockIdx.x * blockDim.x + threadIdx.x, n = 1u << args.log_n;
    if (k >= n) return;
    u32 q = args.primes[args.prime[blockIdx.y]].q;
    u64 limb = (u64)blockIdx.y << args.log_n;
    u32 i = k * args.element & (2 * n - 1);
    u32 word = args.from[limb + (i & (n - 1))];
    args.to[limb + k] = i < n ? word : subtract(0, word, q);
}
