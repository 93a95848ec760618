// Operations word by word. Canonical residues in and out; a thread does four neighbouring words of one limb.
#pragma once
#include "ring.cuh"

// Limb y of the result, to + target[y] · N, from those of a and b. The result may be an operand.
struct PointwiseArgs {
    const Prime* primes;
    u32* to;
    const u32* a;
    const u32* b;
    u32 log_n;
    // Coefficient form: a constant is added to the first word only.
    u32 first_only;
    // Per limb.
    u16 prime[MAX_LIMBS];
    u16 target[MAX_LIMBS];
    u16 a_at[MAX_LIMBS];
    u16 b_at[MAX_LIMBS];
    // Constants and their Shoup quotients.
    u32 constant[MAX_LIMBS];
    u32 quotient[MAX_LIMBS];
};

// Calls f(prime, a, b, i) for each word i of the thread's four.
template <class F>
HERON_DEVICE void pointwise(const PointwiseArgs& args, bool reads_a, bool reads_b, F f) {
    u32 limb = blockIdx.y, i = (blockIdx.x * blockDim.x + threadIdx.x) * 4;
    if (i >> args.log_n) return;
    const Prime p = args.primes[args.prime[limb]];
    Four a = {}, b = {};
    if (reads_a && args.a_at[limb] != ABSENT) a = load_four(args.a + ((u64)args.a_at[limb] << args.log_n) + i);
    if (reads_b && args.b_at[limb] != ABSENT) b = load_four(args.b + ((u64)args.b_at[limb] << args.log_n) + i);
    Four to;
#pragma unroll
    for (u32 k = 0; k < 4; k++) to.at[k] = f(p, a.at[k], b.at[k], i + k);
    store_four(args.to + ((u64)args.target[limb] << args.log_n) + i, to);
}

HERON_DEVICE void pointwise_zero(const PointwiseArgs& args) {
    pointwise(args, false, false, [](const Prime&, u32, u32, u32) { return 0u; });
}

HERON_DEVICE void pointwise_copy(const PointwiseArgs& args) {
    pointwise(args, true, false, [](const Prime&, u32 a, u32, u32) { return a; });
}

HERON_DEVICE void pointwise_add(const PointwiseArgs& args) {
    pointwise(args, true, true, [](const Prime& p, u32 a, u32 b, u32) { return add(a, b, p.q); });
}

HERON_DEVICE void pointwise_subtract(const PointwiseArgs& args) {
    pointwise(args, true, true, [](const Prime& p, u32 a, u32 b, u32) { return subtract(a, b, p.q); });
}

HERON_DEVICE void pointwise_negate(const PointwiseArgs& args) {
    pointwise(args, true, false, [](const Prime& p, u32 a, u32, u32) { return subtract(0, a, p.q); });
}

HERON_DEVICE void pointwise_multiply(const PointwiseArgs& args) {
    pointwise(args, true, true, [](const Prime& p, u32 a, u32 b, u32) { return reduce(wide(a, b), p); });
}

HERON_DEVICE void pointwise_scale(const PointwiseArgs& args) {
    u32 w = args.constant[blockIdx.y], quotient = args.quotient[blockIdx.y];
    pointwise(args, true, false, [=](const Prime& p, u32 a, u32, u32) { return fold(shoup(a, w, quotient, p.q), p.q); });
}

HERON_DEVICE void pointwise_add_constant(const PointwiseArgs& args) {
    u32 c = args.constant[blockIdx.y], first_only = args.first_only;
    pointwise(args, true, false, [=](const Prime& p, u32 a, u32, u32 i) { return i && first_only ? a : add(a, c, p.q); });
}

// a + b · constant.
HERON_DEVICE void pointwise_add_scaled(const PointwiseArgs& args) {
    u32 w = args.constant[blockIdx.y], quotient = args.quotient[blockIdx.y];
    pointwise(args, true, true, [=](const Prime& p, u32 a, u32 b, u32) {
        return add(a, fold(shoup(b, w, quotient, p.q), p.q), p.q);
    });
}

// Times X^(N/2), whose value is the constant in the first half of the words, where reverse(i) is even, and its negative in the second.
HERON_DEVICE void pointwise_multiply_imaginary(const PointwiseArgs& args) {
    u32 w = args.constant[blockIdx.y], quotient = args.quotient[blockIdx.y], half = 1u << (args.log_n - 1);
    pointwise(args, true, false, [=](const Prime& p, u32 a, u32, u32 i) {
        u32 product = fold(shoup(a, w, quotient, p.q), p.q);
        return i < half ? product : subtract(0, product, p.q);
    });
}
