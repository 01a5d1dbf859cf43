//! Rows of a BF16 table, widened to f32.  One unit expands one 16-byte piece (eight weights).
//!
//! - `ids` u32 `[tokens]`: rows of the whole table
//! - `table` BF16 `[rows, hidden]` in 16-byte pieces: rows `base ..` of the table
//! - `out` f32 `[tokens, hidden]`: the rows of ids inside the chunk are written; the others belong to other chunks

use burn_cubecl::tensor::CubeTensor;
use cubecl::prelude::*;

use super::codec::{F4, U4, bf16_piece};
use super::launch::{arg, cubes, dims, grid};

const UNITS: u32 = 64;

#[cube(launch_unchecked)]
fn embedding_kernel(ids: &[u32], table: &[U4], out: &mut [F4], pieces: u32, rows: u32, base: u32) {
    let token = CUBE_POS_Y as usize;
    let piece = ABSOLUTE_POS_X;
    let id = ids[token];
    if piece < pieces && id >= base && id - base < rows {
        let words = table[((id - base) * pieces + piece) as usize];
        let at = (token * pieces as usize + piece as usize) * 2;
        out[at] = bf16_piece(words, 0usize);
        out[at + 1] = bf16_piece(words, 1usize);
    }
}

/// Writes the rows of `ids` that lie in `table`, whose first row is row `base`, into `out`.
pub fn embedding(ids: &CubeTensor, table: &CubeTensor, out: &CubeTensor, base: usize) {
    let [tokens] = dims(ids);
    let [rows, words] = dims(table);
    assert_eq!(dims(out), [tokens, words * 2], "embedding: output shape");
    let pieces = words / 4;
    let count = grid(cubes(pieces, UNITS), tokens as u32, 1);
    // SAFETY: ids outside the chunk and pieces outside the row are skipped; shapes were checked.
    unsafe {
        embedding_kernel::launch_unchecked(
            &ids.client,
            count,
            CubeDim::new_1d(UNITS),
            arg(ids, 1),
            arg(table, 4),
            arg(out, 4),
            pieces as u32,
            rows as u32,
            base as u32,
        );
    }
}
