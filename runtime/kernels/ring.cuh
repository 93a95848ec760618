// The ring: where a prime's tables are, and where an automorphism takes a word.
#pragma once
#include "word.cuh"

// Most limbs one launch works on; the host cuts longer lists.
#define MAX_LIMBS 128
// Most polynomials one launch works on.
#define MAX_BATCH 8
// No limb: an operand that lacks the limb contributes zero.
#define ABSENT 0xffff

// Tables of all primes, `[prime][entry]`. N = rows · columns with rows = 2^log_rows <= columns; word r · columns + c is row r, column c.
// Twiddles are in Montgomery form, centred. psi is the prime's primitive 2N-th root, omega = psi^2, reverse() over log2 N bits.
struct Ring {
    const Prime* primes;
    // Entry k: psi^reverse(k). N entries.
    const i32* forward;
    // Entry r · columns + c: psi^(-c (2 reverse_rows(r) + 1)). N entries.
    const i32* twist;
    // Entry 2^t + k, k < 2^t: omega^(-k N / 2^(t+1)). As many as columns.
    const i32* inverse;
    // Entry r: psi^(-r columns) / N. As many as rows.
    const i32* untwist;
    u32 log_n;
    u32 log_rows;
};

HERON_DEVICE u32 reverse(u32 i, u32 bits) { return __brev(i) >> (32 - bits); }

// Word i of a(X^g) is word turned(i, g) of a, in evaluation form: word i is the value at psi^(2 reverse(i) + 1).
HERON_DEVICE u32 turned(u32 i, u32 g, u32 log_n) {
    u32 point = 2 * reverse(i, log_n) + 1;
    u32 image = point * g & ((2u << log_n) - 1);
    return reverse(image >> 1, log_n);
}
