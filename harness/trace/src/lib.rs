//! The allocation trace format: writer, checked reader, statistics.
#![cfg_attr(not(feature = "std"), no_std)]

pub mod spool;
