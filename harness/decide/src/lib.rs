//! Pure statistics and advice over run records.
