//! The graphs of heron and the passes over them.
