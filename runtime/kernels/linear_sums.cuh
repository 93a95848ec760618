// The sums of a linear map of several sources in one launch. A block owns some words of one limb: it makes those words of every rotated source
// in shared memory, then every sum of them. So keys, digits and diagonals are read once, and rotated sources are never in memory.
#pragma once
#include "key_product.cuh"

// Most rotations, rotated sources and sources of one launch.
#define MAX_FACTORS 48
#define MAX_SOURCES 16
// Sources that are rotated together: they share the words of a key.
#define MAX_SHARING 4

// A rotation X -> X^element by a key as in `KeyUse`, and the sources that are rotated so; without a key, sources as they are.
struct MapRotation {
    const u32* key;
    const u16* places;
    u32 stored_limbs;
    // Undone by turn.
    u32 element, turn;
    // The rotated sources, by number.
    u16 first, count;
};

// A rotated source times a diagonal.
struct MapTerm {
    const u32* diagonal;
    u16 factor;
    // Where limbs are in the diagonal, which repeats every word 2^run times; only one of them is there.
    u16 layout;
    u32 run;
};

// Terms `first` and those after it.
struct MapSum {
    u32* low;
    u32* high;
    u32 first, count;
};

// y = limb of QP; a thread has four neighbouring words.
struct LinearSumsArgs {
    Ring ring;
    // Of each source c1 on the limbs of the row, all its digits, finished, and c0.
    const u32* original[MAX_SOURCES];
    const u32* digits_at[MAX_SOURCES];
    const u32* first[MAX_SOURCES];
    // As in `RotatedSumsArgs`.
    const u16* digit_places;
    const u16* half_places;
    const u16* layouts;
    const MapSum* sum;
    const MapTerm* term;
    u32 rotations, sums, digits, limbs;
    // What the sums are added to.
    u32 accumulate, unused;
    MapRotation rotation[MAX_FACTORS];
    // The source of each rotated source.
    unsigned char source[MAX_FACTORS];
    u16 prime[MAX_LIMBS];
    u32 factor[MAX_LIMBS];
    u32 quotient[MAX_LIMBS];
};

// Four words of one half of a source, times the factor.
HERON_DEVICE Four half_words(const LinearSumsArgs& args, const u32* from, u32 place, u32 limb, u32 i, const Prime& p) {
    Four words = {};
    if (place == ABSENT) return words;
    words = load_four(from + ((u64)place << args.ring.log_n) + i);
#pragma unroll
    for (int k = 0; k < 4; k++) words.at[k] = fold(shoup(words.at[k], args.factor[limb], args.quotient[limb], p.q), p.q);
    return words;
}

// The block's words of up to MAX_SHARING rotated sources, the first of them `factor`, to shared memory. `i`: the thread's words of the source;
// `place`: where they go among the block's.
HERON_DEVICE void rotate_sources(const LinearSumsArgs& args, const MapRotation& rotation, u32 factor, u32 count, u32 i,
                                 const u32 (&place)[4], u32* shared, const Prime& p) {
    u32 limb = blockIdx.y, log_n = args.ring.log_n, words = 4 * blockDim.x;
    u64 low[MAX_SHARING][4] = {}, high[MAX_SHARING][4] = {};
    if (rotation.key) {
        u32 stored = rotation.places[args.digits + limb];
        for (u32 d = 0; d < args.digits; d++) {
            const u32* key = rotation.key + (((u64)rotation.places[d] * 2 * rotation.stored_limbs + stored) << log_n) + i;
            Four b = load_four(key), a = load_four(key + ((u64)rotation.stored_limbs << log_n));
            u32 digit = args.digit_places[d * args.limbs + limb];
            u64 at = ((u64)(digit & ~IN_ORIGINAL) << log_n) + i;
#pragma unroll
            for (u32 s = 0; s < MAX_SHARING; s++) {
                if (s >= count) continue;
                u32 source = args.source[factor + BATCH_NUMBER(s)];
                Four x = load_four((digit & IN_ORIGINAL ? args.original[source] : args.digits_at[source]) + at);
#pragma unroll
                for (int k = 0; k < 4; k++) {
                    low[s][k] += wide(x.at[k], b.at[k]);
                    high[s][k] += wide(x.at[k], a.at[k]);
                }
            }
        }
    }
#pragma unroll
    for (u32 s = 0; s < MAX_SHARING; s++) {
        if (s >= count) continue;
        u32 source = args.source[factor + s];
        Four first = half_words(args, args.first[source], args.half_places[limb], limb, i, p), second = {};
        if (!rotation.key) second = half_words(args, args.original[source], args.half_places[args.limbs + limb], limb, i, p);
        u32* to = shared + 2 * words * (factor + s);
#pragma unroll
        for (int k = 0; k < 4; k++) {
            to[place[k]] = add(first.at[k], reduce(low[s][k], p), p.q);
            to[words + place[k]] = add(second.at[k], reduce(high[s][k], p), p.q);
        }
    }
}

HERON_DEVICE void linear_sums(const LinearSumsArgs& args) {
    HERON_SHARED(u32, shared);
    u32 limb = blockIdx.y, log_n = args.ring.log_n, words = 4 * blockDim.x, mine = 4 * threadIdx.x;
    // An aligned block of the limb, no further than its end: an automorphism takes it from an aligned block.
    u32 first = blockIdx.x * words;
    const Prime p = args.ring.primes[args.prime[limb]];
    for (u32 r = 0; r < args.rotations; r++) {
        const MapRotation& rotation = args.rotation[r];
        u32 i = turned(first, rotation.element, log_n) / words * words + mine, place[4];
#pragma unroll
        for (u32 k = 0; k < 4; k++) place[k] = turned(i + k, rotation.turn, log_n) % words;
        for (u32 f = 0; f < rotation.count; f += MAX_SHARING) {
            rotate_sources(args, rotation, rotation.first + f, least(MAX_SHARING, rotation.count - f), i, place, shared, p);
        }
    }
    __syncthreads();
    u64 at = ((u64)limb << log_n) + first + mine;
    for (u32 s = 0; s < args.sums; s++) {
        const MapSum sum = args.sum[s];
        u64 low[4] = {}, high[4] = {};
        for (u32 t = 0; t < sum.count; t++) {
            const MapTerm term = args.term[sum.first + t];
            const u32* from = term.diagonal + ((u64)args.layouts[term.layout * args.limbs + limb] << (log_n - term.run));
            Four a;
            if (term.run == 0) {
                a = load_four(from + first + mine);
            } else {
#pragma unroll
                for (u32 k = 0; k < 4; k++) a.at[k] = from[(first + mine + k) >> term.run];
            }
            const u32* factor = shared + 2 * words * term.factor + mine;
            Four b = load_four(factor), c = load_four(factor + words);
#pragma unroll
            for (int k = 0; k < 4; k++) {
                low[k] += wide(a.at[k], b.at[k]);
                high[k] += wide(a.at[k], c.at[k]);
            }
        }
#pragma unroll
        for (int half = 0; half < 2; half++) {
            u32* result = (half ? sum.high : sum.low) + at;
            Four before = {}, to;
            if (args.accumulate) before = load_four(result);
#pragma unroll
            for (int k = 0; k < 4; k++) to.at[k] = add(before.at[k], reduce(half ? high[k] : low[k], p), p.q);
            store_four(result, to);
        }
    }
}
