//! The schedule: what compiler and runtime share.

pub mod params;
pub mod proto;
