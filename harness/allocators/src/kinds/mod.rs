//! What is known of each kind of allocator, one file a kind: library, variables, which settings it takes.

pub(crate) mod glibc;
pub(crate) mod jemalloc;
pub(crate) mod mimalloc;
pub(crate) mod null;
pub(crate) mod other;
pub(crate) mod tcmalloc;

#[cfg(test)]
mod tests {
    use fragbench_model::AllocatorKind::{self, Glibc, Jemalloc, Mimalloc, Null, Other, Tcmalloc};

    #[test]
    fn every_kind_has_its_file() {
        let name = |kind: AllocatorKind| match kind {
            Glibc => "glibc",
            Jemalloc => "jemalloc",
            Mimalloc => "mimalloc",
            Null => "null",
            Other => "other",
            Tcmalloc => "tcmalloc",
        };
        let mut files: Vec<String> = std::fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/src/kinds"))
            .unwrap()
            .map(|entry| entry.unwrap().path().file_stem().unwrap().to_string_lossy().into_owned())
            .filter(|stem| stem != "mod")
            .collect();
        files.sort();
        assert_eq!(files, [Glibc, Jemalloc, Mimalloc, Null, Other, Tcmalloc].map(name));
    }
}
