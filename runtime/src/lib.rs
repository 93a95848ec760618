//! Executes schedules under RNS-CKKS.
