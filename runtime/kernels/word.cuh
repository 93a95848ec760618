// Words: arithmetic modulo one prime q < 2^28.
//
// Two kinds of representatives. Canonical: u32 in [0, q), what every kernel reads and leaves in a polynomial. Lazy: i32 in (-8q, 8q), which
// fits because 8q < 2^31; bounds are in units of q and stand where values are made. A signed overflow is a wrong bound, and the simulator
// reports it.
#pragma once

typedef unsigned short u16;
typedef unsigned int u32;
typedef int i32;
typedef unsigned long long u64;
typedef long long i64;

// Constants of one prime; the host's `PrimeConstants`.
struct Prime {
    u32 q;
    // q^-1 mod 2^32.
    u32 q_inverse;
    // floor(2^32 / q).
    u32 barrett;
    // 2^32 mod q, centred: the Montgomery form of 1.
    i32 one;
    // 2^32 mod q, canonical, and its Shoup quotient: undoes a Montgomery reduction.
    u32 radix;
    u32 radix_quotient;
    u32 unused[2];
};

// High words of 32-bit products.
HERON_DEVICE i32 high_signed(i32 a, i32 b) { return __mulhi(a, b); }
HERON_DEVICE u32 high(u32 a, u32 b) { return __umulhi(a, b); }

HERON_DEVICE u32 least(u32 a, u32 b) { return a < b ? a : b; }

// a · w · 2^-32 mod q in (-3q/4 - 1, 3q/4 + 1), for any a and |w| <= q/2: the Montgomery reduction of the signed product, whose
// quotient digit is taken signed, so that it adds at most q/2 to the q/4 that a·w·2^-32 can be.
HERON_DEVICE i32 montgomery(i32 a, i32 w, const Prime& p) {
    i32 digit = (i32)((u32)a * (u32)w * p.q_inverse);
    return high_signed(a, w) - high_signed(digit, (i32)p.q);
}

// x · w mod q in [0, 2q) for any x, with quotient = floor(w 2^32 / q) (V. Shoup, NTL).
HERON_DEVICE u32 shoup(u32 x, u32 w, u32 quotient, u32 q) { return x * w - high(x, quotient) * q; }

// From [0, 2 bound) to [0, bound) for a bound that is a multiple of q.
HERON_DEVICE u32 fold(u32 x, u32 bound) { return least(x, x - bound); }

// Canonical, from (-2q, 2q).
HERON_DEVICE u32 canonical(i32 x, u32 q) {
    u32 word = (u32)x;
    return fold(least(word, word + 2 * q), q);
}

// Within q/2, from (-q, q).
HERON_DEVICE i32 centred(i32 x, u32 q) {
    i32 half = (i32)(q >> 1);
    return x > half ? x - (i32)q : x < -half ? x + (i32)q : x;
}

// From any word to [-q/2, 3q/2): the quotient is off by at most 1/2 for |x| <= 2^31, besides its floor.
HERON_DEVICE i32 barrett(i32 x, const Prime& p) {
    return (i32)((u32)x - (u32)high_signed(x, (i32)p.barrett) * p.q);
}

// sum · 2^-32 mod q in (0, sum 2^-32 + q), for sum < 2^64 - q 2^32.
HERON_DEVICE u32 montgomery_wide(u64 sum, const Prime& p) {
    u32 digit = (u32)sum * p.q_inverse;
    return (u32)(sum >> 32) - high(digit, p.q) + p.q;
}

// sum mod q, canonical, for sum < 2^64 - q 2^32.
HERON_DEVICE u32 reduce(u64 sum, const Prime& p) {
    return fold(shoup(montgomery_wide(sum, p), p.radix, p.radix_quotient, p.q), p.q);
}

HERON_DEVICE u32 add(u32 a, u32 b, u32 q) { return fold(a + b, q); }
HERON_DEVICE u32 subtract(u32 a, u32 b, u32 q) { return least(a - b, a - b + q); }
HERON_DEVICE u64 wide(u32 a, u32 b) { return (u64)a * b; }

// Four neighbouring words, moved at once.
struct alignas(16) Four {
    u32 at[4];
};
HERON_DEVICE Four load_four(const u32* from) { return *(const Four*)from; }
HERON_DEVICE void store_four(u32* to, Four words) { *(Four*)to = words; }
