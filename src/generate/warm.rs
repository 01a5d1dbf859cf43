//! Kernels are compiled when they are first launched, which takes a GPU's driver a tenth of a second each: without this, the
//! first long prompt of a server would hold up everybody for a second.

use std::sync::Arc;

use super::session::{Session, SessionError, SessionOptions};
use crate::kernels::family::Family;
use crate::models::gpt_oss::GptOss;

/// Tokens of passes that between them take every form of a kernel: one, few, few to an expert but many to a matrix; the chunk
/// is the last.
const PASSES: [usize; 3] = [1, 8, 72];

/// Runs every form of every kernel once, in a sequence of its own that is gone afterwards.
///
/// Software adapters are left alone: there a pass costs more than a compilation.
///
/// # Errors
/// Those of a session.
pub fn compile_kernels(model: &Arc<GptOss>, chunk: usize) -> Result<(), SessionError> {
    if let Family::Lane { .. } = model.compute().family() {
        return Ok(());
    }
    let tokens = vec![0; chunk];
    for pass in PASSES.into_iter().filter(|&pass| pass < chunk).chain([chunk]) {
        Session::new(model.clone(), SessionOptions { chunk, context: chunk })?.prefill(&tokens[..pass])?;
    }
    model.compute().release_unused();
    Ok(())
}
