//! Rows of a table, widened to f32.  One unit expands one block of 32 weights.
//!
//! - `ids` u32 `[tokens]`: rows of the whole table
//! - `table` `[rows, hidden]` in 16-byte pieces, and `scales`, as the codec has them: rows `base ..` of the table
//! - `out` f32 `[tokens, hidden]`: the rows of ids inside the chunk are written; the others belong to other chunks

use burn_cubecl::tensor::CubeTensor;
use cubecl::prelude::*;

use super::codec::{BLOCK, Codec, F4, U4, block};
use super::launch::{arg, cubes, dims, grid};
use super::matrix::MatrixArg;

const UNITS: u32 = 64;

#[cube(launch_unchecked)]
fn embedding_kernel<S: Numeric>(
    ids: &[u32],
    table: &[U4],
    scales: &[S],
    out: &mut [F4],
    blocks: u32,
    rows: u32,
    base: u32,
    #[comptime] codec: Codec,
) {
    let token = CUBE_POS_Y as usize;
    let own = ABSOLUTE_POS_X;
    let id = ids[token];
    if own < blocks && id >= base && id - base < rows {
        let values = block(table, scales, ((id - base) * blocks + own) as usize, codec);
        let at = (token * blocks as usize + own as usize) * 8;
        #[unroll]
        for part in 0..8usize {
            // Vector j holds weights j, 8 + j, 16 + j, 24 + j.
            let mut natural = F4::empty();
            #[unroll]
            for i in 0..4usize {
                let weight = comptime!(part * 4 + i);
                natural.insert(i, values[comptime!(weight % 8)].extract(comptime!(weight / 8)));
            }
            out[at + part] = natural;
        }
    }
}

/// Writes the rows of `ids` that lie in `table`, whose first row is row `base`, into `out`.
pub fn embedding(ids: &CubeTensor, table: &MatrixArg, out: &CubeTensor, base: usize) {
    let [tokens] = dims(ids);
    let [out_tokens, width] = dims(out);
    let rows = table.check(width);
    assert_eq!(out_tokens, tokens, "embedding: output rows");
    let blocks = width / BLOCK;
    let count = grid(cubes(blocks, UNITS), tokens as u32, 1);
    macro_rules! launch {
        ($scale:ty, $scales:expr) => {
            // SAFETY: ids outside the chunk and blocks outside the row are skipped; shapes were checked.
            unsafe {
                embedding_kernel::launch_unchecked::<$scale>(
                    &ids.client,
                    count,
                    CubeDim::new_1d(UNITS),
                    arg(ids, 1),
                    arg(table.words, 4),
                    $scales,
                    arg(out, 4),
                    blocks as u32,
                    rows as u32,
                    base as u32,
                    table.codec,
                );
            }
        };
    }
    match table.codec.has_scales() {
        true => launch!(u32, arg(table.scales, 1)),
        false => launch!(u32, arg(ids, 1)),
    }
}
