//! Plan, spawn, sample, record.
