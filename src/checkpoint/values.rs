//! Rules on values, for those who read every byte anyway: no NaN, no scale that model.bin cannot hold.

use std::path::Path;

use super::{CheckpointError, TensorId};

/// Largest E8M0 scale that model.bin can hold: it stores scale + 14, and 255 is the code of NaN.
pub const SCALE_MAX: u8 = 254 - crate::model_bin::layout::SCALE_OFFSET;
/// The E8M0 code of NaN.
pub const SCALE_NAN: u8 = 255;

/// Checks a run of a tensor's canonical bytes; `first` is the index of its first element, for messages.
pub fn check(path: &Path, tensor: TensorId, bytes: &[u8], first: u64) -> Result<(), CheckpointError> {
    let (path, name) = (|| path.to_path_buf(), || tensor.original_name());
    if tensor.role.is_scales() {
        // The maximum first: it vectorises, and the search is needed only on failure.
        if bytes.iter().copied().fold(0, u8::max) > SCALE_MAX {
            let at = bytes.iter().position(|&s| s > SCALE_MAX).expect("the maximum exceeds the limit");
            let (index, found) = (first + at as u64, bytes[at]);
            return Err(match found {
                SCALE_NAN => CheckpointError::ScaleNan { path: path(), name: name(), index },
                _ => CheckpointError::ScaleOverflow { path: path(), name: name(), index, found, max: SCALE_MAX },
            });
        }
    } else if !tensor.role.is_blocks()
        && let Some(at) = first_nan(bytes)
    {
        let bits = u16::from_le_bytes([bytes[2 * at], bytes[2 * at + 1]]);
        return Err(CheckpointError::ValueNan { path: path(), name: name(), index: first + at as u64, bits });
    }
    Ok(())
}

/// The index of the first NaN among little-endian BF16 values.
pub fn first_nan(bytes: &[u8]) -> Option<usize> {
    /// Values tested together: long enough for vector code, short enough to search again.
    const RUN_BYTES: usize = 4096;
    let is_nan = |pair: &[u8]| u16::from_le_bytes([pair[0], pair[1]]) & 0x7fff > 0x7f80;
    for (run, chunk) in bytes.chunks(RUN_BYTES).enumerate() {
        // No early exit inside a run, so that it vectorises.
        if chunk.chunks_exact(2).fold(false, |any, pair| any | is_nan(pair)) {
            let at = chunk.chunks_exact(2).position(is_nan).expect("the run holds a NaN");
            return Some(run * RUN_BYTES / 2 + at);
        }
    }
    None
}
