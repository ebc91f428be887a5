//! The allocation trace format: writer, checked reader, statistics.
