//! The graphs of heron and the passes over them.
//!
//! A model goes down a ladder of graphs: tensor, poly, packed, levelled; each prints, verifies and evaluates in plain
//! `f64`, so that a pass can be checked by running the graph before and after it. This crate has no file access.

pub mod approx;
pub mod assign_levels;
pub mod attention_groups;
pub mod attention_plan;
pub mod attention_stages;
pub mod budget;
pub mod calibrate_ranges;
pub mod chebyshev_plan;
pub mod choose_layout;
pub mod client_head;
pub mod cost;
pub mod defer_normalisation;
pub mod element_maps;
pub mod fold_centring;
pub mod fold_linear;
pub mod ir;
pub mod last_position;
pub mod linear_lowering;
pub mod linear_siblings;
pub mod linear_steps;
pub mod lower_attention;
pub mod lower_evaluate;
pub mod lower_packed;
pub mod normalise;
pub mod pass;
pub mod place_bootstraps;
pub mod placement;
pub mod plots;
pub mod prepared;
pub mod registry;
pub mod row_sums;
pub mod share_equal;
pub mod sites;
pub mod split_rotary;
pub mod substitute_polynomials;
mod substitute_softmax;
pub mod to_poly;
pub mod witness;
