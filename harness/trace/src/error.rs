//! What can be wrong with a trace, each with the offset and the next step.

/// Why a file cannot be read as a trace, or a trace cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TraceError {
    /// The operating system would not let us.
    #[error("cannot access the trace: {0}; give a file that `fragbench record` made")]
    Io(#[from] std::io::Error),
    /// The file has no bytes.
    #[error("the file is empty; record again")]
    Empty,
    /// It begins otherwise.
    #[error("not a fragbench trace: it does not begin with \"FBTRACE\"")]
    Foreign,
    /// It is a recorder's spool.
    #[error("this is a recorder's spool, not a trace; turn it into one with `fragbench trace pack`")]
    IsSpool,
    /// It ends within the file header.
    #[error("not a usable trace: {bytes} bytes, shorter than the file header")]
    TooShort {
        /// Its length.
        bytes: u64,
    },
    /// It was written by a newer fragbench.
    #[error(
        "a trace of version {version}; this fragbench reads up to version {}; use a newer fragbench",
        crate::format::VERSION
    )]
    Newer {
        /// Its version.
        version: u32,
    },
    /// The file header's checksum does not hold.
    #[error("damaged trace: the checksum of the file header (offset 0) does not hold")]
    Header,
    /// A stretch that is needed is damaged.
    #[error("damaged trace: {0}; take another copy, or record again")]
    Damaged(Damage),
    /// The spool cannot be read.
    #[error(transparent)]
    Spool(#[from] crate::spool::SpoolError),
    /// What a packer that was killed left behind cannot be used.
    #[error("{} is not the state of packing this spool, or is damaged: part of the spool was packed and is gone", _0.display())]
    State(std::path::PathBuf),
    /// More than the format can hold.
    #[error("the recording cannot be packed: {0}")]
    TooLarge(&'static str),
}

/// A stretch of a trace that cannot be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{what} at offset {offset}")]
pub struct Damage {
    /// Where it begins, bytes from the start of the file.
    pub offset: u64,
    /// Its length where known, else 0.
    pub len: u64,
    /// What is wrong.
    pub what: &'static str,
}

impl From<Damage> for TraceError {
    fn from(damage: Damage) -> Self {
        Self::Damaged(damage)
    }
}
