//! Candidates by rank: descending logits, equal ones by ascending id, sorted only as far as somebody looks.

use std::cmp::Ordering;

/// Candidates that a first look sorts; what a draw from a trained model needs is nearly always among them.
const FIRST_BLOCK: usize = 64;
/// How much further each later look sorts, compared with what is sorted.
const GROWTH: usize = 3;

/// A token that may be chosen.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Candidate {
    /// After bias and penalties, before temperature; never NaN, never −0.
    pub(super) logit: f64,
    /// Its id.
    pub(super) id: u32,
}

/// Candidates in ascending order of ids, until [`Ranked::get`] begins to sort them.
#[derive(Debug, Clone)]
pub(super) struct Ranked {
    all: Vec<Candidate>,
    sorted: usize,
}

impl Ranked {
    /// Empty, with room for `vocab` candidates.
    pub(super) fn with_capacity(vocab: usize) -> Self {
        Self { all: Vec::with_capacity(vocab), sorted: 0 }
    }

    /// Forgets everything; the vector to fill in ascending order of ids.
    pub(super) fn restart(&mut self) -> &mut Vec<Candidate> {
        self.all.clear();
        self.sorted = 0;
        &mut self.all
    }

    /// All candidates; in ascending order of ids as long as none was asked for by rank.
    pub(super) fn all(&self) -> &[Candidate] {
        &self.all
    }

    /// Keeps those of at least `logit`; before any was asked for by rank.
    pub(super) fn retain_from(&mut self, logit: f64) {
        debug_assert_eq!(self.sorted, 0, "ranks are in use");
        self.all.retain(|candidate| candidate.logit >= logit);
    }

    /// The candidate of `rank`, 0 the largest; `None` past the last.
    pub(super) fn get(&mut self, rank: usize) -> Option<Candidate> {
        while rank >= self.sorted && self.sorted < self.all.len() {
            self.sort_block();
        }
        self.all.get(rank).copied()
    }

    fn sort_block(&mut self) {
        let rest = &mut self.all[self.sorted..];
        let block = (self.sorted * GROWTH).max(FIRST_BLOCK).min(rest.len());
        if block < rest.len() {
            rest.select_nth_unstable_by(block, by_rank);
        }
        rest[..block].sort_unstable_by(by_rank);
        self.sorted += block;
    }
}

/// Total, for logits are never NaN and ids differ: no sort can leave an order open.
fn by_rank(a: &Candidate, b: &Candidate) -> Ordering {
    b.logit.total_cmp(&a.logit).then(a.id.cmp(&b.id))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_way_of_asking_gives_the_whole_order() {
        // 1000 candidates, each logit four times.
        let fill = |ranked: &mut Ranked| {
            let logit = |id: u32| f64::from(id * 7919 % 250);
            ranked.restart().extend((0..1000).map(|id| Candidate { logit: logit(id), id }));
        };
        let mut ranked = Ranked::with_capacity(1000);
        fill(&mut ranked);
        let mut want = ranked.all().to_vec();
        want.sort_by_key(|c| (std::cmp::Reverse(c.logit as u32), c.id));
        for ranks in [vec![0, 63, 64, 65, 255, 256, 999, 1000], vec![999, 3, 0, 500]] {
            fill(&mut ranked);
            for rank in ranks {
                assert_eq!(ranked.get(rank), want.get(rank).copied(), "rank {rank}");
            }
        }
    }

    #[test]
    fn a_first_look_sorts_one_block() {
        let mut ranked = Ranked::with_capacity(1000);
        ranked.restart().extend((0..1000).map(|id| Candidate { logit: f64::from(id), id }));
        assert_eq!(ranked.get(10).map(|c| c.id), Some(989));
        assert_eq!(ranked.sorted, FIRST_BLOCK);
    }
}
