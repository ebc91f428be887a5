//! Allocators under test, described as environments.
