//! gperftools' tcmalloc: a library of the user's, recognised by its symbols; settings are its `TCMALLOC_*` variables.
//!
//! Source: gperftools, `docs/tcmalloc.html`, "Modifying Runtime Behavior".

use fragbench_model::Settings;

use crate::AllocatorError;
use crate::setting::{Interpreted, is_variable};

pub(crate) fn accepts(key: &str) -> bool {
    key.starts_with("TCMALLOC_")
}

pub(crate) fn interpret(settings: &Settings) -> Result<Interpreted, AllocatorError> {
    match settings.keys().find(|key| !accepts(key) || !is_variable(key)) {
        None => Ok(Interpreted { environment: settings.clone(), notes: Vec::new() }),
        Some(key) => Err(AllocatorError::UnknownSetting {
            allocator: "tcmalloc".to_owned(),
            key: key.clone(),
            nearest: None,
            hint: "it takes TCMALLOC_* variables, for instance TCMALLOC_RELEASE_RATE".to_owned(),
        }),
    }
}
