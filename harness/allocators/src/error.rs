//! What can be wrong with an allocator as the user named it.

use std::path::PathBuf;

/// Why an allocator could not be described. Every message names what was wrong and the next step.
#[derive(Debug, thiserror::Error)]
pub enum AllocatorError {
    /// No allocator of this name.
    #[error("unknown allocator {name:?}{}; known are {known}, or NAME=/path/to/library.so for any other", did_you_mean(.nearest))]
    UnknownName {
        /// As written.
        name: String,
        /// The closest known name, when one is close.
        nearest: Option<String>,
        /// All known names.
        known: String,
    },
    /// A bundled allocator whose library is not made by building the workspace.
    #[error(
        "{name} is not built: install cmake, then `cargo build --release --target-dir target --manifest-path {manifest}`"
    )]
    NotBuilt {
        /// Its name.
        name: &'static str,
        /// The manifest of the crate that makes its library.
        manifest: &'static str,
    },
    /// `NAME=/path` with a name that cannot be used.
    #[error(
        "{name:?} cannot name an allocator of your own: use letters, digits, '-', '_' or '.', and none of the built-in names"
    )]
    BadName {
        /// As written.
        name: String,
    },
    /// The library could not be read.
    #[error("cannot read the library {}: {error}{hint}", path.display())]
    Unreadable {
        /// As written.
        path: PathBuf,
        /// The operating system's answer.
        error: std::io::Error,
        /// The next step, when there is one; begins with "; ".
        hint: String,
    },
    /// The dynamic linker splits `LD_PRELOAD` at these characters.
    #[error("the library path {} holds a space or a colon, at which LD_PRELOAD is split; link it under another name", path.display())]
    UnpreloadablePath {
        /// Its absolute path.
        path: PathBuf,
    },
    /// Not a file the dynamic linker would load.
    #[error("{} cannot be preloaded: {reason}", path.display())]
    NotPreloadable {
        /// Its absolute path.
        path: PathBuf,
        /// What it is instead.
        reason: String,
    },
    /// No setting of this name.
    #[error("{allocator} has no setting {key:?}{}; {hint}", did_you_mean(.nearest))]
    UnknownSetting {
        /// The allocator it was given to.
        allocator: String,
        /// As written.
        key: String,
        /// The closest known name, when one is close.
        nearest: Option<String>,
        /// What it does take.
        hint: String,
    },
    /// A value the allocator would ignore or reject.
    #[error("{key}={value:?} is not usable: {reason}")]
    BadValue {
        /// The setting.
        key: String,
        /// As written.
        value: String,
        /// What is expected.
        reason: String,
    },
    /// Two settings that mean the same knob.
    #[error("{first} and {second} set the same thing; give one of them")]
    SetTwice {
        /// One name.
        first: String,
        /// The other.
        second: String,
    },
}

fn did_you_mean(nearest: &Option<String>) -> String {
    nearest.as_ref().map(|n| format!("; did you mean {n}?")).unwrap_or_default()
}
