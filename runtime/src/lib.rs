//! Executes schedules under RNS-CKKS.

pub mod arith;
pub mod backend;
pub mod bootstrap;
pub mod ckks;
pub mod client;
pub mod exec;
pub mod ring;
pub mod rlwe;
