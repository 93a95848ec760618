//! The binary as users meet it: processes, files, exit codes.

mod bisect;
mod client_head;
mod compiled;
mod families;
mod four_processes;
mod full_size;
mod independent;
mod last_position;
mod launches;
mod model_snapshots;
mod predicted;
mod random;
mod refusals;
mod reports;
mod shared_models;
mod support;
mod sweep;
