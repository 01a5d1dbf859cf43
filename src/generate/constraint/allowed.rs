//! Sets of tokens, and logits without the others.

use llguidance::toktrie::SimpleVob;

use crate::generate::tokenizer::TEXT_TOKENS;

/// Tokens of which the next must be one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Allowed {
    /// Few.
    These(Vec<u32>),
    /// Every token of text, and the one that ends it.
    Text {
        /// Which.
        end: u32,
    },
    /// Tokens of text.
    Set {
        /// By id.
        set: SimpleVob,
        /// The token that ends the text, if it may end.
        end: Option<u32>,
    },
}

impl Allowed {
    /// Whether `id` is text's.
    pub(super) fn is_text(id: u32) -> bool {
        id < TEXT_TOKENS
    }

    /// Whether `id` is one of them.
    pub fn contains(&self, id: u32) -> bool {
        match self {
            Allowed::These(ids) => ids.contains(&id),
            Allowed::Text { end } => Self::is_text(id) || id == *end,
            Allowed::Set { set, end } => *end == Some(id) || ((id as usize) < set.len() && set.is_allowed(id)),
        }
    }

    /// Fills `masked` with `logits`, `[vocab]`, and −∞ in place of every token that is not one of them.
    ///
    /// What is no logit, NaN or +∞, stays wherever it is first: that a model is broken is told whatever is allowed.
    pub fn mask(&self, logits: &[f32], masked: &mut Vec<f32>) {
        masked.clear();
        if let Allowed::Text { .. } = self {
            masked.extend_from_slice(&logits[..logits.len().min(TEXT_TOKENS as usize)]);
        }
        masked.resize(logits.len(), f32::NEG_INFINITY);
        let mut allow = |id: usize| {
            if let (Some(place), Some(logit)) = (masked.get_mut(id), logits.get(id)) {
                *place = *logit;
            }
        };
        match self {
            Allowed::These(ids) => ids.iter().for_each(|&id| allow(id as usize)),
            Allowed::Text { end } => allow(*end as usize),
            Allowed::Set { set, end } => {
                set.iter_set_entries(&mut allow);
                end.iter().for_each(|&id| allow(id as usize));
            }
        }
        if let Some(at) = logits.iter().position(|logit| logit.is_nan() || *logit == f32::INFINITY) {
            masked[at] = logits[at];
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NONE: f32 = f32::NEG_INFINITY;

    #[test]
    fn what_is_not_allowed_is_ruled_out() {
        let mut set = SimpleVob::alloc(4);
        set.allow_token(1);
        set.allow_token(3);
        let logits = [0.5, 1.5, -2.0, 3.5, 4.5];
        let mut masked = vec![9.0];
        for (allowed, want) in [
            (Allowed::These(vec![4, 0, 77]), [0.5, NONE, NONE, NONE, 4.5]),
            (Allowed::Set { set: set.clone(), end: None }, [NONE, 1.5, NONE, 3.5, NONE]),
            (Allowed::Set { set, end: Some(4) }, [NONE, 1.5, NONE, 3.5, 4.5]),
            (Allowed::Text { end: 200_007 }, logits),
        ] {
            allowed.mask(&logits, &mut masked);
            assert_eq!(masked, want);
            (0..5).for_each(|id| assert_eq!(allowed.contains(id), want[id as usize] > NONE, "{id} of {allowed:?}"));
        }
    }

    #[test]
    fn text_is_no_control_token() {
        let logits = vec![0.25; 201_100];
        let (mut masked, allowed) = (Vec::new(), Allowed::Text { end: 200_007 });
        allowed.mask(&logits, &mut masked);
        let left: Vec<usize> = (0..masked.len()).filter(|&id| masked[id] > NONE).collect();
        assert_eq!((left.len(), left[199_997], left[199_998]), (199_999, 199_997, 200_007));
    }

    #[test]
    fn a_broken_model_is_told_whatever_is_allowed() {
        let mut masked = Vec::new();
        Allowed::These(vec![0]).mask(&[1.0, 2.0, f32::NAN], &mut masked);
        assert!(masked[2].is_nan());
    }
}
