//! Which shares nobody but the guest changes, so that it need not ask again: the annotation `drupe.immutable`.
//!
//! It is a promise of the caller about its own files. Broken, the guest sees old contents; nothing else follows from it.

use std::path::Path;

use drupe_vmm::ShareCache;

use super::SharePlan;
use super::mounts::Mounts;
use crate::bundle::{Bundle, FieldError, Problem};
use crate::lexical::clean;

/// Destinations of bind mounts, separated by commas; `/` is the root filesystem.
const ANNOTATION: &str = "drupe.immutable";

/// Marks the shares that the bundle calls immutable.
pub(super) fn mark(bundle: &Bundle, root: &mut SharePlan, mounts: &mut Mounts) -> Result<(), FieldError> {
    let annotations = bundle.config.spec().annotations();
    let Some(list) = annotations.as_ref().and_then(|all| all.get(ANNOTATION)) else { return Ok(()) };
    for destination in list.split(',').map(str::trim).filter(|name| !name.is_empty()) {
        let path = clean(Path::new(destination));
        let share =
            if path == Path::new("/") { Some(&mut *root) } else { mounts.share_at(&path.to_string_lossy()) };
        let Some(share) = share else {
            let problem =
                Problem::Invalid("must name destinations of bind mounts, or / for the root filesystem");
            return Err(FieldError::text(format!("annotations[{ANNOTATION:?}]"), destination, problem));
        };
        share.cache = ShareCache::Immutable;
    }
    Ok(())
}
