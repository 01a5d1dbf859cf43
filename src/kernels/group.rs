//! Sorts the (token, slot) assignments of a chunk by expert, on the device: one cube, unit `e` owns expert `e`.
//!
//! - `ids` u32 `[assignments]`
//! - `perm` u32 `[assignments]`: assignment numbers, ascending within an expert, experts ascending
//! - `tiles` u32 `[tiles, 3]`: expert, first entry of `perm`, entries (at most `tile_rows`); unused tiles have 0 entries
//!
//! No atomics: every unit counts and places its own, so the order is the same on every run and adapter.

use burn_cubecl::tensor::CubeTensor;
use cubecl::prelude::*;

use super::launch::{arg, dims, grid};

#[cube(launch_unchecked)]
fn group_kernel(
    ids: &[u32],
    perm: &mut [u32],
    tiles: &mut [u32],
    assignments: u32,
    tile_count: u32,
    #[comptime] experts: usize,
    #[comptime] units: usize,
    #[comptime] tile_rows: usize,
) {
    let unit = UNIT_POS as usize;
    let assignments = assignments as usize;
    let mut counts = Shared::<[u32]>::new_slice(experts);
    let mut e = unit;
    while e < experts {
        let mut count = 0u32;
        for a in 0..assignments {
            if ids[a] == e as u32 {
                count += 1;
            }
        }
        counts[e] = count;
        e += units;
    }
    let mut t = unit;
    while t < tile_count as usize {
        tiles[t * 3 + 2] = 0;
        t += units;
    }
    sync_cube();
    sync_storage();
    let mut e = unit;
    while e < experts {
        let mut start = 0u32;
        let mut tile = 0u32;
        for before in 0..e {
            start += counts[before];
            tile += (counts[before] + comptime!(tile_rows as u32 - 1)) / comptime!(tile_rows as u32);
        }
        let mut place = start as usize;
        for a in 0..assignments {
            if ids[a] == e as u32 {
                perm[place] = a as u32;
                place += 1;
            }
        }
        let mut left = counts[e];
        while left > 0 {
            let rows = min(left, comptime!(tile_rows as u32));
            tiles[tile as usize * 3] = e as u32;
            tiles[tile as usize * 3 + 1] = start;
            tiles[tile as usize * 3 + 2] = rows;
            start += rows;
            left -= rows;
            tile += 1;
        }
        e += units;
    }
}

/// Tiles that `assignments` over `experts` may need.
pub fn tiles_max(assignments: usize, experts: usize, tile_rows: usize) -> usize {
    assignments / tile_rows + experts.min(assignments)
}

/// Fills `perm` and `tiles` from `ids`.
pub fn group(ids: &CubeTensor, perm: &CubeTensor, tiles: &CubeTensor, experts: usize, tile_rows: usize) {
    let [tokens, chosen] = dims(ids);
    let assignments = tokens * chosen;
    let [tile_count, three] = dims(tiles);
    assert_eq!((dims(perm), three), ([assignments], 3), "group: shapes");
    assert!(tile_count >= tiles_max(assignments, experts, tile_rows), "group: room for tiles");
    let units = experts.min(128);
    // SAFETY: shapes were checked above; ids beyond the experts are counted by no unit.
    unsafe {
        group_kernel::launch_unchecked(
            &ids.client,
            grid(1, 1, 1),
            CubeDim::new_1d(units as u32),
            arg(ids, 1),
            arg(perm, 1),
            arg(tiles, 1),
            assignments as u32,
            tile_count as u32,
            experts,
            units,
            tile_rows,
        );
    }
}
