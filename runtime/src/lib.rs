//! Executes schedules under RNS-CKKS.

pub mod arith;
pub mod ring;
