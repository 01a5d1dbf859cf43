//! Assignments sorted by expert, and their tiles: exact.

use super::inputs::Numbers;
use super::trial::{Cell, Output, Trial, Want, Where};
use crate::device::Compute;
use crate::kernels::group::tiles_max;
use crate::kernels::ops::group_rows;
use crate::kernels::tile::Shape;

/// How assignments fall on experts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Spread {
    /// Different experts for each token, at random.
    Random,
    /// All of one expert.
    All(u32),
    /// Random, every third assignment of an expert that is not here.
    Gaps,
    /// None here.
    Nowhere,
}

impl Spread {
    /// The ids of `tokens × chosen` assignments.
    pub(super) fn ids(self, numbers: &mut Numbers, tokens: usize, chosen: usize, experts: usize) -> Vec<u32> {
        let random: Vec<u32> = (0..tokens).flat_map(|_| numbers.distinct(chosen, experts)).collect();
        let gap = |i: usize| if i.is_multiple_of(2) { u32::MAX } else { (experts + i) as u32 };
        let id = |(i, id): (usize, u32)| match self {
            Spread::Random => id,
            Spread::All(one) => one,
            Spread::Gaps => {
                if i % 3 == 1 {
                    gap(i)
                } else {
                    id
                }
            }
            Spread::Nowhere => gap(i),
        };
        random.into_iter().enumerate().map(id).collect()
    }
}

struct Case {
    name: &'static str,
    experts: usize,
    tokens: usize,
    chosen: usize,
    spread: Spread,
}

const fn case(name: &'static str, experts: usize, tokens: usize, chosen: usize, spread: Spread) -> Case {
    Case { name, experts, tokens, chosen, spread }
}

const CASES: [Case; 15] = [
    case("one assignment of one expert", 1, 1, 1, Spread::Random),
    case("one expert, 7 rows", 1, 7, 1, Spread::Random),
    case("one expert, 8 rows", 1, 8, 1, Spread::Random),
    case("one expert, 9 rows", 1, 9, 1, Spread::Random),
    case("one expert, 31 rows", 1, 31, 1, Spread::Random),
    case("one expert, 32 rows", 1, 32, 1, Spread::Random),
    case("one expert, 33 rows", 1, 33, 1, Spread::Random),
    case("one expert, 65 rows", 1, 65, 1, Spread::Random),
    case("all of four", 4, 65, 4, Spread::Random),
    case("three of eight", 8, 64, 3, Spread::Random),
    case("four of 32, some without rows", 32, 9, 4, Spread::Random),
    case("all rows on the last of 32", 32, 65, 1, Spread::All(31)),
    case("four of 128, 65 tokens", 128, 65, 4, Spread::Random),
    case("assignments of experts elsewhere", 8, 33, 4, Spread::Gaps),
    case("no assignment here", 8, 5, 2, Spread::Nowhere),
];

pub(super) fn trials() -> Vec<Trial> {
    let each = |case| {
        let of = |shape| trial(case, shape, false);
        [of(Shape::Lane).on(Where::Lane), of(Shape::Few).on(Where::Groups), of(Shape::Tiled).on(Where::Groups)]
    };
    let wrong = trial(&CASES[9], Shape::Lane, true).planted("an expert's rows in descending order");
    CASES.iter().flat_map(each).chain([wrong]).collect()
}

/// Assignments of present experts: experts ascending, assignments of an expert ascending.
pub(super) fn sorted(ids: &[u32], experts: usize) -> Vec<u32> {
    let of = |expert| (0..ids.len() as u32).filter(move |&a| ids[a as usize] as usize == expert);
    (0..experts).flat_map(of).collect()
}

/// Expert, first entry and entries of each tile of at most `rows` entries.
pub(super) fn tiles(ids: &[u32], experts: usize, rows: usize) -> Vec<[u32; 3]> {
    let mut tiles = Vec::new();
    let mut first = 0;
    for expert in 0..experts {
        let mut left = ids.iter().filter(|&&id| id as usize == expert).count();
        while left > 0 {
            let count = left.min(rows);
            tiles.push([expert as u32, first as u32, count as u32]);
            (first, left) = (first + count, left - count);
        }
    }
    tiles
}

fn trial(case: &Case, shape: Shape, descending: bool) -> Trial {
    let &Case { name, experts, tokens, chosen, spread } = case;
    let ids = spread.ids(&mut Numbers::new(name), tokens, chosen, experts);
    let mut perm = sorted(&ids, experts);
    if descending {
        perm.sort_by_key(|&a| (ids[a as usize], std::cmp::Reverse(a)));
    }
    let mut perm: Vec<Cell> = perm.into_iter().map(Cell::Bits).collect();
    perm.resize(ids.len(), Cell::Open);
    let used = tiles(&ids, experts, shape.rows());
    let mut list: Vec<Cell> = used.iter().flatten().map(|&word| Cell::Bits(word)).collect();
    for _ in used.len()..tiles_max(ids.len(), experts, shape.rows()) {
        list.extend([Cell::Open, Cell::Open, Cell::Bits(0)]);
    }
    let wants = vec![Want::new("perm", 1, perm), Want::new("tiles", 3, list)];
    // With no assignment here, every entry of the order is open.
    let wants = wants.into_iter().filter(|want| want.cells.iter().any(|&cell| cell != Cell::Open)).collect::<Vec<_>>();
    let has_order = wants.len() == 2;
    let launch = move |compute: &Compute| {
        let ids = compute.upload(&ids, [tokens, chosen]);
        let (perm, tiles) = group_rows(&ids, experts, shape);
        let order = has_order.then(|| Output::words(perm));
        order.into_iter().chain([Output::words(tiles)]).collect()
    };
    Trial::new(format!("{name}, {shape:?}"), wants, Box::new(launch))
}
