//! Criterion benchmarks of the harness's hot paths and of the allocators' raw calls.
