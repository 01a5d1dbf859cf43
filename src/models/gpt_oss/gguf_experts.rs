//! One expert of a GGUF in our order: codes of 16 bytes a block with values 2j and 2j + 1 in byte j, scales apart, gate and up
//! rows interleaved.  The codes and scales are the same; nothing is decoded.

use super::stored::kind_of;
use crate::checkpoint::config::MXFP4_BLOCK_VALUES;
use crate::checkpoint::{Layout, TensorId, WeightSource};
use crate::gguf::Encoding;
use crate::quant::mxfp4::BLOCK_BYTES;
use crate::quant::mxfp4_ggml::{self, BYTES};

/// Codes and scales of expert `expert` of a tensor of blocks, of `rows` rows.
pub(super) fn repacked(source: &dyn WeightSource, tensor: TensorId, expert: usize, rows: usize) -> (Vec<u8>, Vec<u8>) {
    let row_blocks = tensor.shape(source.config())[2];
    let columns = row_blocks * MXFP4_BLOCK_VALUES;
    let mut codes = vec![0; rows * row_blocks * BLOCK_BYTES];
    let mut scales = vec![0; rows * row_blocks];
    for part in source.parts(tensor) {
        for stored_row in 0..part.rows.count {
            let row = part.rows.first + stored_row * part.rows.step;
            let stored = part.row(expert, stored_row, columns).as_chunks::<BYTES>().0;
            let codes = codes[row * row_blocks * BLOCK_BYTES..].as_chunks_mut::<BLOCK_BYTES>().0;
            let scales = &mut scales[row * row_blocks..];
            for ((block, codes), scale) in stored.iter().zip(codes).zip(scales) {
                (*scale, *codes) = match (part.encoding, block) {
                    (Encoding::Mxfp4InOrder, [scale, codes @ ..]) => (*scale, *codes),
                    _ => mxfp4_ggml::unpack(block),
                };
            }
        }
        let row_bytes = part.encoding.row_bytes(columns);
        let of_expert = part.rows.count * row_bytes;
        source.has_read(&part.bytes[expert * of_expert..][..of_expert]);
    }
    (codes, scales)
}

/// A scale of expert `expert` that is above `max`, if there is one.
pub(super) fn scale_above(
    source: &dyn WeightSource,
    tensor: TensorId,
    expert: usize,
    columns: usize,
    max: u8,
) -> Option<u8> {
    for part in source.parts(tensor) {
        let of_expert = part.rows.count * part.encoding.row_bytes(columns);
        let stored = &part.bytes[expert * of_expert..][..of_expert];
        let found = stored.as_chunks::<BYTES>().0.iter().map(|block| block[0]).find(|&scale| scale > max);
        // They lie among the codes: all of the expert's pages were read.
        source.has_read(stored);
        if found.is_some() {
            return found;
        }
    }
    None
}

/// The bias of expert `expert`, `rows` values, as little-endian f32.
pub(super) fn bias(source: &dyn WeightSource, tensor: TensorId, expert: usize, rows: usize) -> Vec<u8> {
    let mut values = vec![0f32; rows];
    if source.layout() == Layout::Gguf {
        for part in source.parts(tensor) {
            let kind = kind_of(part.encoding);
            let mut stored = vec![0f32; part.rows.count];
            let bytes = part.rows.count * kind.bytes();
            kind.decode(&part.bytes[expert * bytes..][..bytes], &mut stored);
            let places = (part.rows.first..).step_by(part.rows.step);
            stored.into_iter().zip(places).for_each(|(value, row)| values[row] = value);
        }
    } else {
        let segments = source.segments(tensor);
        let bytes = crate::checkpoint::source::slice_of(&segments, expert * rows * 2, rows * 2);
        crate::quant::BlockType::Bf16.decode(bytes, &mut values);
    }
    values.into_iter().flat_map(f32::to_le_bytes).collect()
}
