//! Sizes against WebGPU's limits, and the scales of MXFP4 blocks.

use rayon::prelude::*;

use super::kind::Dialect;
use super::{Finding, Weight};
use crate::gguf::{GgmlType, Gguf, Located};

/// `maxStorageBufferBindingSize` that every WebGPU device has.
const BINDING_BYTES: u64 = 128 << 20;
/// `maxBufferSize` that every WebGPU device has.
const BUFFER_BYTES: u64 = 256 << 20;
/// Bytes of an MXFP4 block: the scale, then 16 bytes of codes.
const BLOCK_BYTES: usize = 17;
/// The E8M0 code of NaN.
const SCALE_NAN: usize = 255;
/// Scales whose factor, halved as ggml has it, is a subnormal f32.
const SUBNORMAL: std::ops::Range<usize> = 0..2;

/// Tensors that no buffer of a default WebGPU device holds whole.
pub(super) fn limits(gguf: &Gguf, findings: &mut Vec<Finding>) {
    for (name, bytes, limit) in
        [("webgpu-binding", BINDING_BYTES, "binding"), ("webgpu-buffer", BUFFER_BYTES, "buffer")]
    {
        let size = |located: &Located<'_>| located.info.bytes.unwrap_or(0);
        let large: Vec<Located<'_>> = gguf.tensors().filter(|located| size(located) > bytes).collect();
        let Some(largest) = large.iter().max_by_key(|located| size(located)) else { continue };
        let detail = format!(
            "{} tensors exceed WebGPU's default {limit} of {bytes} bytes, the largest `{}` with {}: a browser must split them, as \
             this program does",
            large.len(),
            largest.info.name.escape_debug(),
            size(largest)
        );
        findings.push(Finding::new(Weight::Trouble, name, detail));
    }
}

/// The histogram of scale bytes over every MXFP4 tensor.
pub(super) fn scales(gguf: &Gguf, dialect: Dialect, findings: &mut Vec<Finding>) {
    let is_mxfp4 = |located: &Located<'_>| [dialect.mxfp4(), GgmlType::MXFP4].contains(&located.info.ggml_type);
    let tensors: Vec<Located<'_>> = gguf.tensors().filter(is_mxfp4).collect();
    let counted: Vec<[u64; 256]> = tensors.par_iter().filter_map(|located| histogram(located)).collect();
    if counted.len() < tensors.len() {
        let detail = format!("the data of {} MXFP4 tensors is not in the file", tensors.len() - counted.len());
        findings.push(Finding::new(Weight::Trouble, "scales-unread", detail));
    }
    let mut total = [0u64; 256];
    counted.iter().flatten().enumerate().for_each(|(at, count)| total[at % 256] += count);
    let (first, last) = (total.iter().position(|count| *count > 0), total.iter().rposition(|count| *count > 0));
    let Some((first, last)) = first.zip(last) else { return };
    let (blocks, most) = (total.iter().sum::<u64>(), total.iter().max().copied().unwrap_or(0));
    let mode = total.iter().position(|count| *count == most).unwrap_or(0);
    let detail = format!("{blocks} MXFP4 blocks with scale bytes {first} to {last}, most often {mode}");
    findings.push(Finding::new(Weight::Is, "scales", detail));
    if total[SCALE_NAN] > 0 {
        let detail = format!(
            "{} blocks have the scale 255, NaN: this program refuses them, llama.cpp reads 2^127 unless --check-tensors is given",
            total[SCALE_NAN]
        );
        findings.push(Finding::new(Weight::Trouble, "scale-nan", detail));
    }
    let subnormal: u64 = total[SUBNORMAL].iter().sum();
    if subnormal > 0 {
        let detail = format!(
            "{subnormal} blocks have the scale 0 or 1, a subnormal factor: GPUs that flush those to zero lose the blocks in \
             llama.cpp; this program keeps them"
        );
        findings.push(Finding::new(Weight::Trouble, "scale-subnormal", detail));
    }
}

/// How often each scale byte is there; the pages are given back behind the reader.
fn histogram(located: &Located<'_>) -> Option<[u64; 256]> {
    let bytes = located.bytes_as(GgmlType::MXFP4).ok()?;
    let mut counts = [0; 256];
    bytes.as_chunks::<BLOCK_BYTES>().0.iter().for_each(|block| counts[usize::from(block[0])] += 1);
    let start = (located.part.index.data_offset + located.info.offset) as usize;
    located.part.file.has_read(start..start + bytes.len());
    Some(counts)
}
