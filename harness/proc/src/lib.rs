//! Readers of /proc and cgroups over a root path.
