// Number-theoretic transforms of many limbs in two launches each: columns and rows of the N = rows · columns words of a limb.
//
// Forward: columns, then rows; coefficients in natural order to values in bit-reversed order. Backward: rows, then columns; the four-step
// form, so that all rows share their twiddles, and all columns too. Between the two launches words are lazy.
#pragma once
#include "passes.cuh"

// Limb y of batch z: from[z] + source[y] · N to to[z] + target[y] · N.
struct TransformArgs {
    Ring ring;
    const u32* from[MAX_BATCH];
    u32* to[MAX_BATCH];
    // Forward rows: result += addend limb · factor, where there is an addend.
    const u32* addend[MAX_BATCH];
    // Forward rows: word i of the result goes to word turned(i, turn): the inverse of the automorphism to apply, or 1.
    u32 turn;
    u32 unused;
    // Per limb: its prime, where it is, where it goes, where its addend is.
    u16 prime[MAX_LIMBS];
    u16 source[MAX_LIMBS];
    u16 target[MAX_LIMBS];
    u16 addend_at[MAX_LIMBS];
    // In Montgomery form, centred. Backward columns: what the coefficients are multiplied by, besides 1/N.
    i32 factor[MAX_LIMBS];
};

// Points of one thread: 2^radix(stages).
constexpr HERON_DEVICE int radix(int stages) { return stages == 4 || stages == 7 || stages == 8 ? 4 : 3; }

// Words of one limb as columns: thread lane w of the block's columns, elements r along them.
struct ColumnTile {
    static constexpr bool RUNS = false;
    const u32* from;
    u32* to;
    i32* shared;
    u32 columns, width, lane;
    const Prime* p;

    HERON_DEVICE i32 get(u32 r) const { return shared[r * width + lane]; }
    HERON_DEVICE void put(u32 r, i32 x) { shared[r * width + lane] = x; }
};

struct ForwardColumns : ColumnTile {
    HERON_DEVICE i32 load(u32 r, int) const { return (i32)from[r * columns]; }
    // Bound 7 after eight stages; 3/4 after the reduction, so that the rows can add 6.75.
    HERON_DEVICE void store(u32 r, i32 x) { to[r * columns] = (u32)montgomery(x, p->one, *p); }
};

struct BackwardColumns : ColumnTile {
    const i32* untwist;
    HERON_DEVICE i32 load(u32 r, int) const { return (i32)from[r * columns]; }
    HERON_DEVICE void store(u32 r, i32 x) { to[r * columns] = canonical(montgomery(x, untwist[r], *p), p->q); }
};

// One row of a limb. A word of padding per 32 keeps threads that hold neighbouring runs on different banks.
struct RowTile {
    static constexpr bool RUNS = true;
    const u32* from;
    i32* shared;
    const Prime* p;

    static constexpr HERON_DEVICE u32 padded(u32 c) { return c + c / 32; }
    HERON_DEVICE i32 get(u32 c) const { return shared[padded(c)]; }
    HERON_DEVICE void put(u32 c, i32 x) { shared[padded(c)] = x; }
    HERON_DEVICE i32 load(u32 c, int) const { return (i32)from[c]; }
    template <int COUNT>
    HERON_DEVICE void load_run(u32 c, i32 (&x)[COUNT]) const {
#pragma unroll
        for (int e = 0; e < COUNT; e += 4) {
            Four words = load_four(from + c + e);
#pragma unroll
            for (int k = 0; k < 4; k++) x[e + k] = (i32)words.at[k];
        }
    }
};

// Its values stay in registers, by number, canonical.
template <int POINTS>
struct KeptRow : RowTile {
    u32 kept[POINTS];
    template <int COUNT>
    HERON_DEVICE void store_run(u32, const i32 (&x)[COUNT], int number) {
#pragma unroll
        for (int e = 0; e < COUNT; e++) kept[number + e] = canonical(barrett(x[e], *p), p->q);
    }
};

struct BackwardRow : RowTile {
    u32* to;
    const i32* twist;
    HERON_DEVICE void store(u32 c, i32 x) { to[c] = (u32)montgomery(x, twist[c], *p); }
    // Of a transform that has one pass only.
    template <int COUNT>
    HERON_DEVICE void store_run(u32 c, const i32 (&x)[COUNT], int) {
#pragma unroll
        for (int e = 0; e < COUNT; e++) store(c + e, x[e]);
    }
};

// Where in its row a thread has its run number k / 2^K after the last forward pass, which works on 2^K neighbours at a time.
template <int STAGES>
HERON_DEVICE u32 row_place(u32 thread, int number) {
    typedef Plan<STAGES, radix(STAGES)> Stages;
    constexpr int K = Stages::stages(Stages::passes - 1);
    constexpr u32 THREADS = 1u << (STAGES - radix(STAGES));
    return ((thread + ((u32)number >> K) * THREADS) << K) + ((u32)number & ((1u << K) - 1));
}

// Leaves a row's values, kept by number, in a limb: word i goes to turned(i, turn), or is added to what is there. An automorphism takes
// aligned blocks to aligned blocks, hence a row to a row, whose order changes in shared memory.
template <int STAGES, int POINTS>
HERON_DEVICE void write_row(RowTile& tile, u32 thread, const u32 (&words)[POINTS], u32* limb, u32 first, u32 turn, u32 log_n, bool accumulate) {
    constexpr u32 COLUMNS = 1u << STAGES, THREADS = COLUMNS >> radix(STAGES);
    u32 q = tile.p->q;
    if (turn == 1) {
#pragma unroll
        for (int k = 0; k < POINTS; k += 4) {
            u32* to = limb + first + row_place<STAGES>(thread, k);
            Four before = {}, sum;
            if (accumulate) before = load_four(to);
#pragma unroll
            for (int j = 0; j < 4; j++) sum.at[j] = add(before.at[j], words[k + j], q);
            store_four(to, sum);
        }
        return;
    }
    // The last pass, or the row before, has been read by all.
    __syncthreads();
#pragma unroll
    for (int k = 0; k < POINTS; k++) {
        tile.put(turned(first + row_place<STAGES>(thread, k), turn, log_n) % COLUMNS, (i32)words[k]);
    }
    __syncthreads();
    u32* to = limb + turned(first, turn, log_n) / COLUMNS * COLUMNS;
#pragma unroll
    for (int k = 0; k < POINTS; k++) {
        u32 c = thread + k * THREADS;
        to[c] = add(accumulate ? to[c] : 0, (u32)tile.get(c), q);
    }
}

template <int STAGES, class Tile>
HERON_DEVICE u32 place_columns(Tile& tile, const TransformArgs& args, const Prime* p) {
    constexpr u32 ROWS = 1u << STAGES;
    u32 log_n = args.ring.log_n, columns = (1u << log_n) / ROWS, limb = blockIdx.y;
    u32 width = blockDim.x * (1u << radix(STAGES)) / ROWS;
    tile.columns = columns;
    tile.width = width;
    tile.lane = threadIdx.x % width;
    u32 column = blockIdx.x * width + tile.lane;
    tile.from = args.from[blockIdx.z] + ((u64)args.source[limb] << log_n) + column;
    tile.to = args.to[blockIdx.z] + ((u64)args.target[limb] << log_n) + column;
    tile.p = p;
    return threadIdx.x / width;
}

template <int STAGES>
HERON_DEVICE void forward_columns(const TransformArgs& args) {
    HERON_SHARED(i32, shared);
    u32 prime = args.prime[blockIdx.y];
    const Prime p = args.ring.primes[prime];
    ForwardColumns tile;
    tile.shared = shared;
    u32 thread = place_columns<STAGES>(tile, args, &p);
    const i32* twiddles = args.ring.forward + ((u64)prime << args.ring.log_n);
    forward_transform<STAGES, radix(STAGES)>(tile, thread, 1, twiddles, p);
}

template <int STAGES>
HERON_DEVICE void backward_columns(const TransformArgs& args) {
    HERON_SHARED(i32, shared);
    constexpr u32 ROWS = 1u << STAGES;
    u32 prime = args.prime[blockIdx.y], log_columns = args.ring.log_n - STAGES;
    const Prime p = args.ring.primes[prime];
    // The last factors of all rows, times the limb's.
    i32* untwist = shared;
    const i32* plain = args.ring.untwist + prime * ROWS;
    for (u32 r = threadIdx.x; r < ROWS; r += blockDim.x) {
        // A product is within 3/4 q + 1; centred again it may be multiplied by any word.
        untwist[r] = centred(montgomery(plain[r], args.factor[blockIdx.y], p), p.q);
    }
    __syncthreads();
    BackwardColumns tile;
    tile.shared = shared + ROWS;
    tile.untwist = untwist;
    u32 thread = place_columns<STAGES>(tile, args, &p);
    const i32* twiddles = args.ring.inverse + ((u64)prime << log_columns);
    backward_transform<STAGES, radix(STAGES)>(tile, thread, twiddles, p);
}

// Which row of the limb a thread works on; several rows per block.
template <int STAGES, class Tile>
HERON_DEVICE u32 place_row(Tile& tile, i32* shared, const Prime* p) {
    constexpr u32 COLUMNS = 1u << STAGES, THREADS = COLUMNS >> radix(STAGES);
    u32 local = threadIdx.x / THREADS;
    tile.shared = shared + local * RowTile::padded(COLUMNS);
    tile.p = p;
    return blockIdx.x * (blockDim.x / THREADS) + local;
}

template <int STAGES>
HERON_DEVICE void forward_rows(const TransformArgs& args) {
    HERON_SHARED(i32, shared);
    constexpr u32 COLUMNS = 1u << STAGES, THREADS = COLUMNS >> radix(STAGES);
    constexpr int POINTS = 1 << radix(STAGES);
    u32 limb = blockIdx.y, prime = args.prime[limb], log_n = args.ring.log_n, thread = threadIdx.x % THREADS;
    const Prime p = args.ring.primes[prime];
    KeptRow<POINTS> tile;
    u32 row = place_row<STAGES>(tile, shared, &p), first = row * COLUMNS;
    tile.from = args.from[blockIdx.z] + ((u64)args.source[limb] << log_n) + first;
    const i32* twiddles = args.ring.forward + ((u64)prime << log_n);
    forward_transform<STAGES, radix(STAGES)>(tile, thread, (1u << args.ring.log_rows) + row, twiddles, p);
    const u32* addend = args.addend[blockIdx.z];
    u32 addend_at = args.addend_at[limb];
    if (addend && addend_at != ABSENT) {
        addend += ((u64)addend_at << log_n) + first;
        i32 factor = args.factor[limb];
#pragma unroll
        for (int k = 0; k < POINTS; k += 4) {
            Four words = load_four(addend + row_place<STAGES>(thread, k));
#pragma unroll
            for (int j = 0; j < 4; j++) {
                tile.kept[k + j] = canonical((i32)tile.kept[k + j] + montgomery((i32)words.at[j], factor, p), p.q);
            }
        }
    }
    u32* to = args.to[blockIdx.z] + ((u64)args.target[limb] << log_n);
    write_row<STAGES>(tile, thread, tile.kept, to, first, args.turn, log_n, false);
}

template <int STAGES>
HERON_DEVICE void backward_rows(const TransformArgs& args) {
    HERON_SHARED(i32, shared);
    constexpr u32 COLUMNS = 1u << STAGES, THREADS = COLUMNS >> radix(STAGES);
    u32 limb = blockIdx.y, prime = args.prime[limb], log_n = args.ring.log_n;
    const Prime p = args.ring.primes[prime];
    BackwardRow tile;
    u32 row = place_row<STAGES>(tile, shared, &p);
    u32 first = row * COLUMNS;
    tile.from = args.from[blockIdx.z] + ((u64)args.source[limb] << log_n) + first;
    tile.to = args.to[blockIdx.z] + ((u64)args.target[limb] << log_n) + first;
    tile.twist = args.ring.twist + ((u64)prime << log_n) + first;
    const i32* twiddles = args.ring.inverse + ((u64)prime << STAGES);
    backward_transform<STAGES, radix(STAGES)>(tile, threadIdx.x % THREADS, twiddles, p);
}
