//! Tests of passes: a case each changes (snapshot as a difference), one it leaves alone, one it refuses.

mod opt;
mod packed_models;
mod random_graphs;
mod random_packed;
mod support;

mod altered;
mod assign_levels;
mod attention_ways;
mod calibrate_ranges;
mod choose;
mod client_head;
mod defer_normalisation;
mod emit;
mod fold_centring;
mod fold_linear;
mod last_position;
mod lower_packed;
mod normalise;
mod power_softmax_depth;
mod row_sums;
mod share_equal;
mod split_rotary;
mod substitute_polynomials;
mod substitute_softmax;
mod text;
mod witness;
