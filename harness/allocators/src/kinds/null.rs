//! The null allocator: bump allocation that never reuses, the floor of time. It has no settings.

use fragbench_model::{AllocatorKind, Settings};

use crate::setting::Interpreted;
use crate::{AllocatorError, Builtin};

pub(crate) const BUILTIN: Builtin = Builtin {
    name: "null",
    kind: AllocatorKind::Null,
    library: Some("libfragbench_null.so"),
    manifest: None,
    summary: "never reuses memory: its time is the driver's own cost plus page faults",
    source: "harness/allocators/preload/null",
};

pub(crate) fn interpret(settings: &Settings) -> Result<Interpreted, AllocatorError> {
    match settings.keys().next() {
        None => Ok(Interpreted::default()),
        Some(key) => Err(AllocatorError::UnknownSetting {
            allocator: BUILTIN.name.to_owned(),
            key: key.clone(),
            nearest: None,
            hint: "it has no settings".to_owned(),
        }),
    }
}
