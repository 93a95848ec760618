//! The kernels' arguments, word for word as `kernels/*.cuh` declare them. The simulator compares sizes at every launch.

use bytemuck::{Pod, Zeroable};

/// Most limbs of one launch.
pub(super) const MAX_LIMBS: usize = 128;
/// Most polynomials of one launch.
pub(super) const MAX_BATCH: usize = 8;
/// Most digits of an extension.
pub(super) const MAX_PIECES: usize = 32;
/// Most terms of one launch of a sum of products.
pub(super) const MAX_TERMS: usize = 32;
/// Most sums, and most pairs they share, of one launch.
pub(super) const MAX_SUMS: usize = 4;
/// See [`MAX_SUMS`].
pub(super) const MAX_SHARED: usize = 32;
/// Most digits of a key.
pub(super) const MAX_DIGITS: usize = 32;
/// Most rotations of one launch.
pub(super) const MAX_ROTATIONS: usize = 32;
/// Most pairs of products of one launch: rotations times ciphertexts.
pub(super) const MAX_PRODUCTS: usize = 32;
/// Most ciphertexts of one launch of shared sums.
pub(super) const MAX_ALIKE: usize = 4;
/// Most rotations, giant steps and ciphertexts of one launch of rotated sums.
pub(super) const MAX_BABIES: usize = 16;
/// See [`MAX_BABIES`].
pub(super) const MAX_GIANTS: usize = 8;
/// See [`MAX_BABIES`].
pub(super) const MAX_MAPPED: usize = 4;
/// Most rotated sources, and most sources, of one launch of a linear map's sums.
pub(super) const MAX_FACTORS: usize = 48;
/// See [`MAX_FACTORS`].
pub(super) const MAX_SOURCES: usize = 16;
/// No limb.
pub(super) const ABSENT: u16 = 0xffff;
/// A digit's limb that is the decomposed polynomial's own.
pub(super) const IN_ORIGINAL: u16 = 0x8000;

/// Constants of one prime.
#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
pub(super) struct PrimeConstants {
    pub q: u32,
    pub q_inverse: u32,
    pub barrett: u32,
    pub one: i32,
    pub radix: u32,
    pub radix_quotient: u32,
    pub unused: [u32; 2],
}

/// Addresses of the tables of all primes.
#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
pub(super) struct Ring {
    pub primes: u64,
    pub forward: u64,
    pub twist: u64,
    pub inverse: u64,
    pub untwist: u64,
    pub log_n: u32,
    pub log_rows: u32,
}

#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
pub(super) struct TransformArgs {
    pub ring: Ring,
    pub from: [u64; MAX_BATCH],
    pub to: [u64; MAX_BATCH],
    pub addend: [u64; MAX_BATCH],
    pub turn: u32,
    pub unused: u32,
    pub prime: [u16; MAX_LIMBS],
    pub source: [u16; MAX_LIMBS],
    pub target: [u16; MAX_LIMBS],
    pub addend_at: [u16; MAX_LIMBS],
    pub factor: [i32; MAX_LIMBS],
}

#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
pub(super) struct PointwiseArgs {
    pub primes: u64,
    pub to: u64,
    pub a: u64,
    pub b: u64,
    pub log_n: u32,
    pub first_only: u32,
    pub prime: [u16; MAX_LIMBS],
    pub target: [u16; MAX_LIMBS],
    pub a_at: [u16; MAX_LIMBS],
    pub b_at: [u16; MAX_LIMBS],
    pub constant: [u32; MAX_LIMBS],
    pub quotient: [u32; MAX_LIMBS],
}

#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
pub(super) struct AutomorphismArgs {
    pub primes: u64,
    pub to: u64,
    pub from: u64,
    pub log_n: u32,
    pub element: u32,
    pub prime: [u16; MAX_LIMBS],
}

#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
pub(super) struct EncodeArgs {
    pub primes: u64,
    pub forward: u64,
    pub from: u64,
    pub to: u64,
    pub log_n: u32,
    pub log_words: u32,
    pub log_gap: u32,
    pub words: u32,
    pub limbs: u32,
    pub unused: u32,
    pub prime: [u16; MAX_LIMBS],
}

#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
pub(super) struct PipeArgs {
    pub to: u64,
    pub steps: u32,
    pub q: u32,
    pub q_inverse: u32,
    pub unused: u32,
}

/// One basis extension of a launch.
#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
pub(super) struct Piece {
    pub tables: u64,
    pub sources: u16,
    pub targets: u16,
    pub source: u16,
    pub target: u16,
}

#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
pub(super) struct ExtensionArgs {
    pub ring: Ring,
    pub from: [u64; MAX_BATCH],
    pub to: [u64; MAX_BATCH],
    pub prime: u64,
    pub pieces: u32,
    pub group: u32,
    pub piece: [Piece; MAX_PIECES],
    pub source_prime: [u16; MAX_LIMBS],
    pub source_factor: [i32; MAX_LIMBS],
}

#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
pub(super) struct ProductArgs {
    pub primes: u64,
    pub low: u64,
    pub high: u64,
    pub layouts: u64,
    pub log_n: u32,
    pub terms: u32,
    pub limbs: u32,
    pub accumulate: u32,
    pub a: [u64; MAX_TERMS],
    pub b: [u64; MAX_TERMS],
    pub c: [u64; MAX_TERMS],
    pub a_layout: [u8; MAX_TERMS],
    pub b_layout: [u8; MAX_TERMS],
    pub c_layout: [u8; MAX_TERMS],
    pub run: [u8; MAX_TERMS],
    pub prime: [u16; MAX_LIMBS],
}

#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
pub(super) struct SharedProductsArgs {
    pub primes: u64,
    pub low: [[u64; MAX_SUMS]; MAX_ALIKE],
    pub high: [[u64; MAX_SUMS]; MAX_ALIKE],
    pub layouts: u64,
    pub log_n: u32,
    pub pairs: u32,
    pub limbs: u32,
    pub accumulate: u32,
    pub batch: u32,
    pub unused: u32,
    pub b: [[u64; MAX_ALIKE]; MAX_SHARED],
    pub c: [[u64; MAX_ALIKE]; MAX_SHARED],
    pub a: [[u64; MAX_SUMS]; MAX_SHARED],
    pub b_layout: [u8; MAX_SHARED],
    pub c_layout: [u8; MAX_SHARED],
    pub a_layout: [[u8; MAX_SUMS]; MAX_SHARED],
    pub run: [[u8; MAX_SUMS]; MAX_SHARED],
    pub prime: [u16; MAX_LIMBS],
}

/// One key.
#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
pub(super) struct KeyUse {
    pub key: u64,
    pub places: u64,
    pub stored_limbs: u32,
    pub turn: u32,
}

#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
pub(super) struct KeyProductArgs {
    pub ring: Ring,
    pub original: [u64; MAX_BATCH],
    pub digits_at: [u64; MAX_BATCH],
    pub digit_places: u64,
    pub addend: [[u64; 2]; MAX_BATCH],
    pub addend_places: u64,
    pub accumulate: u32,
    pub digits: u32,
    pub limbs: u32,
    pub batch: u32,
    pub uses: [KeyUse; MAX_ROTATIONS],
    pub low: [u64; MAX_PRODUCTS],
    pub high: [u64; MAX_PRODUCTS],
    pub prime: [u16; MAX_LIMBS],
    pub factor: [u32; MAX_LIMBS],
    pub quotient: [u32; MAX_LIMBS],
}

/// One rotation of a linear map.
#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
pub(super) struct Baby {
    pub key: u64,
    pub places: u64,
    pub stored_limbs: u32,
    pub element: u32,
}

#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
pub(super) struct RotatedSumsArgs {
    pub ring: Ring,
    pub original: [u64; MAX_MAPPED],
    pub digits_at: [u64; MAX_MAPPED],
    pub first: [u64; MAX_MAPPED],
    pub digit_places: u64,
    pub half_places: u64,
    pub layouts: u64,
    pub babies: u32,
    pub digits: u32,
    pub limbs: u32,
    pub batch: u32,
    pub baby: [Baby; MAX_BABIES],
    pub diagonal: [[u64; MAX_GIANTS]; MAX_BABIES],
    pub layout: [[u8; MAX_GIANTS]; MAX_BABIES],
    pub run: [[u8; MAX_GIANTS]; MAX_BABIES],
    pub low: [[u64; MAX_GIANTS]; MAX_MAPPED],
    pub high: [[u64; MAX_GIANTS]; MAX_MAPPED],
    pub prime: [u16; MAX_LIMBS],
    pub factor: [u32; MAX_LIMBS],
    pub quotient: [u32; MAX_LIMBS],
}

/// One rotation of a linear map, and the sources that are rotated so.
#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
pub(super) struct MapRotation {
    pub key: u64,
    pub places: u64,
    pub stored_limbs: u32,
    pub element: u32,
    pub turn: u32,
    pub first: u16,
    pub count: u16,
}

#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
pub(super) struct MapTerm {
    pub diagonal: u64,
    pub factor: u16,
    pub layout: u16,
    pub run: u32,
}

#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
pub(super) struct MapSum {
    pub low: u64,
    pub high: u64,
    pub first: u32,
    pub count: u32,
}

#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
pub(super) struct LinearSumsArgs {
    pub ring: Ring,
    pub original: [u64; MAX_SOURCES],
    pub digits_at: [u64; MAX_SOURCES],
    pub first: [u64; MAX_SOURCES],
    pub digit_places: u64,
    pub half_places: u64,
    pub layouts: u64,
    pub sum: u64,
    pub term: u64,
    pub rotations: u32,
    pub sums: u32,
    pub digits: u32,
    pub limbs: u32,
    pub accumulate: u32,
    pub unused: u32,
    pub rotation: [MapRotation; MAX_FACTORS],
    pub source: [u8; MAX_FACTORS],
    pub prime: [u16; MAX_LIMBS],
    pub factor: [u32; MAX_LIMBS],
    pub quotient: [u32; MAX_LIMBS],
}
