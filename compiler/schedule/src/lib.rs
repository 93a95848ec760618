//! The schedule: what compiler and runtime share.
