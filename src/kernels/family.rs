//! The three shapes a kernel takes, and the sums inside them.
//!
//! A **group** of `lanes` units works on a few rows together and adds up at the end; a cube holds `groups` of them, as
//! one dimension of units, lanes of a group side by side.
//!
//! | family    | for                          | lanes      | the group's sum                        |
//! |-----------|------------------------------|------------|----------------------------------------|
//! | Plane     | GPUs with subgroups          | plane size | one subgroup reduction                 |
//! | Workgroup | GPUs without                 | 32         | a tree in workgroup memory             |
//! | Lane      | software adapters            | 1          | none: a lane owns its rows, no barrier |
//!
//! A software adapter runs a subgroup as one SIMD register, and loads from storage lane by lane even where all lanes want
//! the same address: loads are what it has least of.  There the units of a subgroup each load a part of what all of them
//! want, and give it to the others ([`common_block`]).

use cubecl::prelude::*;

use super::codec::F4;

/// The shape of a kernel, by what the adapter is good at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Family {
    /// Subgroup reductions over planes of exactly `size` units.
    Plane {
        /// Units of a plane: a power of two.
        size: u32,
    },
    /// Trees in workgroup memory.
    Workgroup,
    /// One unit a group, and neither barriers nor workgroup memory on the hot path.
    Lane {
        /// Units that give each other what they load: a power of two, at most the subgroup's size; 1: each loads all.
        share: u32,
    },
}

/// Most units that share a block's eight vectors.
const SHARE_MAX: u32 = 8;

impl Family {
    /// The lane shape for subgroups of `size` units; 0 or 1: there are none.
    pub fn lane(size: u32) -> Self {
        Family::Lane { share: if size.is_power_of_two() { size.min(SHARE_MAX) } else { 1 } }
    }

    /// Units of a group.
    pub const fn lanes(self) -> u32 {
        match self {
            Family::Plane { size } => size,
            Family::Workgroup => 32,
            Family::Lane { .. } => 1,
        }
    }

    /// Groups of a cube: 128 units on a GPU; eight lanes, one SIMD register, on a software adapter.
    pub const fn groups(self) -> u32 {
        match self {
            Family::Lane { .. } => 8,
            _ if self.lanes() < 128 => 128 / self.lanes(),
            _ => 1,
        }
    }

    /// A cube of [`lanes`](Self::lanes) × [`groups`](Self::groups), in one dimension: software adapters fill their SIMD
    /// registers along it.
    pub fn cube(self) -> CubeDim {
        CubeDim::new_1d(self.lanes() * self.groups())
    }

    /// Units of a cube that works on one row as a whole.
    pub fn row_units(self) -> u32 {
        match self {
            Family::Lane { .. } => 8,
            _ => 128,
        }
    }
}

/// This unit's place in its group.
#[cube]
pub fn lane(#[comptime] family: Family) -> usize {
    match family {
        Family::Lane { .. } => 0usize.runtime(),
        _ => UNIT_POS as usize % comptime!(family.lanes() as usize),
    }
}

/// The eight vectors of `x` from `first` on.  In the lane shape every unit of the cube must want the same ones, and all must
/// get here.
#[cube]
pub fn common_block(x: &[F4], first: usize, #[comptime] family: Family) -> Array<F4> {
    let mut block = Array::<F4>::new(8usize);
    match family {
        Family::Lane { share } if share > 1 => {
            let unit = (UNIT_POS_PLANE % share) as usize;
            #[unroll]
            for part in 0..comptime!(8 / share) {
                let own = x[first + comptime!((part * share) as usize) + unit];
                #[unroll]
                for j in 0..share {
                    block[comptime!((part * share + j) as usize)] = plane_broadcast(own, j);
                }
            }
        }
        _ =>
        {
            #[unroll]
            for j in 0..8usize {
                block[j] = x[first + j];
            }
        }
    }
    block
}

/// Which group of the launch this unit is in.
#[cube]
pub fn group(#[comptime] family: Family) -> usize {
    CUBE_POS_X as usize * comptime!(family.groups() as usize) + UNIT_POS as usize / comptime!(family.lanes() as usize)
}

/// Replaces each of the `count` values by its sum over the group; what lanes other than 0 hold afterwards is undefined.
///
/// Must be reached by every unit of the cube.
#[cube]
pub fn group_sum(values: &mut Array<f32>, #[comptime] count: usize, #[comptime] family: Family) {
    match family {
        Family::Lane { .. } => {}
        Family::Plane { .. } =>
        {
            #[unroll]
            for i in 0..count {
                values[i] = plane_sum(values[i]);
            }
        }
        Family::Workgroup => {
            let lanes = comptime!(family.lanes() as usize);
            let groups = comptime!(family.groups() as usize);
            let mut partial = Shared::<[f32]>::new_slice(comptime!(lanes * groups * count));
            let lane = UNIT_POS as usize % lanes;
            let base = UNIT_POS as usize * count;
            #[unroll]
            for i in 0..count {
                partial[base + i] = values[i];
            }
            let steps = comptime!(lanes.ilog2());
            #[unroll]
            for step in 0..steps {
                sync_cube();
                let offset = comptime!(lanes >> (step as usize + 1));
                if lane < offset {
                    #[unroll]
                    for i in 0..count {
                        partial[base + i] += partial[base + offset * count + i];
                    }
                }
            }
            sync_cube();
            #[unroll]
            for i in 0..count {
                values[i] = partial[base + i];
            }
        }
    }
}

/// The sum of `value` over all `units` (a power of two) of a one-dimensional cube, in every unit.
///
/// Must be reached by every unit of the cube.
#[cube]
pub fn cube_sum(value: f32, #[comptime] units: usize) -> f32 {
    let mut partial = Shared::<[f32]>::new_slice(units);
    let unit = UNIT_POS as usize;
    partial[unit] = value;
    let steps = comptime!(units.ilog2());
    #[unroll]
    for step in 0..steps {
        sync_cube();
        let offset = comptime!(units >> (step as usize + 1));
        if unit < offset {
            partial[unit] += partial[unit + offset];
        }
    }
    sync_cube();
    partial[0]
}
