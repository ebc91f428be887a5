//! What every workload runs on inside the measured process.
