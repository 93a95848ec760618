//! The binary as users meet it: processes, files, exit codes.

mod compiled;
mod four_processes;
mod independent;
mod refusals;
mod support;
