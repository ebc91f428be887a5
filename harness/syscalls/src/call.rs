//! One system call as it was recorded.

use serde::Serialize;

/// Which one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Name {
    /// Maps memory or a file.
    Mmap,
    /// Takes a mapping away.
    Munmap,
    /// Moves the end of the main heap.
    Brk,
    /// Changes what may be done; glibc grows a thread's arena by it.
    Mprotect,
    /// Mostly: gives pages back.
    Madvise,
    /// Resizes or moves a mapping.
    Mremap,
}

impl Name {
    /// All of them.
    pub const ALL: [Name; 6] = [Name::Mmap, Name::Munmap, Name::Brk, Name::Mprotect, Name::Madvise, Name::Mremap];

    /// As the kernel calls it.
    pub fn text(self) -> &'static str {
        match self {
            Name::Mmap => "mmap",
            Name::Munmap => "munmap",
            Name::Brk => "brk",
            Name::Mprotect => "mprotect",
            Name::Madvise => "madvise",
            Name::Mremap => "mremap",
        }
    }

    pub(crate) fn of(text: &str) -> Option<Name> {
        Name::ALL.into_iter().find(|name| name.text() == text)
    }
}

/// A call.
#[derive(Debug, Clone, PartialEq)]
pub struct Call {
    /// When, seconds of the recorder's own clock.
    pub at_s: f64,
    /// Process.
    pub pid: u32,
    /// Thread.
    pub thread: u32,
    /// Name of the thread, where it is known.
    pub thread_name: String,
    /// Which call.
    pub name: Name,
    /// The address it works on; the end that `brk` asks for; what was asked for with `mmap`, 0 for anywhere.
    pub address: u64,
    /// Its length; of `mremap` the new one; 0 for `brk`.
    pub bytes: u64,
    /// `prot` of mmap and mprotect.
    pub access: u64,
    /// `flags` of mmap.
    pub flags: u64,
    /// What it gave back, where that was recorded.
    pub result: Option<u64>,
    /// Functions, the one that made the call first; empty when stacks were not recorded.
    pub stack: Vec<Frame>,
}

/// A function on a stack.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize)]
pub struct Frame {
    /// Its name, or where it is.
    pub function: String,
    /// File name of the object it is in.
    pub object: String,
}

impl Call {
    /// Whether the kernel refused it.
    pub fn failed(&self) -> bool {
        // The last page of the address space holds negative error numbers.
        self.result.is_some_and(|result| result > u64::MAX - 4096)
    }
}

impl Frame {
    /// The function's name without what a C library adds to it: `mmap64` of `__GI___mmap64`.
    pub(crate) fn plain_name(&self) -> &str {
        let name = self.function.split('@').next().unwrap_or_default().trim_start_matches('_');
        name.trim_start_matches("GI_").trim_start_matches('_').trim_start_matches("libc_")
    }
}
