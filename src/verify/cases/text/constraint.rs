//! What an answer must be: streams that a model may write and such that it may not, schemas against a validator's verdicts,
//! ids that no model may choose, and draws from what is left.

use serde_json::Value;

use super::{LEVEL, of_cases, text};
use crate::generate::constraint::{Allowed, Callable, Constraint, Form, Grammar, Text};
use crate::generate::harmony::json::Json;
use crate::generate::sampling::{Sampler, SamplingParams};
use crate::generate::tokenizer::{TEXT_TOKENS, Tokenizer, VOCABULARY, special};
use crate::verify::cases::with_golden;
use crate::verify::outcome::Check;

/// What a text may be.
#[derive(Debug, Clone, Copy)]
pub enum Wish {
    /// Anything.
    Free,
    /// JSON of this schema.
    Schema(&'static str),
}

/// What is asked for: the last word, if it may be one, and the functions that may be called.
#[derive(Debug, Clone, Copy)]
pub struct Asked {
    /// In the channel `final`.
    pub answer: Option<Wish>,
    /// Names and arguments.
    pub calls: &'static [(&'static str, Wish)],
}

/// Something that says which tokens may come.
pub trait Gate {
    /// Whether this may be the next token.
    fn allows(&mut self, id: u32) -> bool;
    /// It is.
    fn take(&mut self, id: u32);
}

/// What is asked for to what holds an answer to it.
pub type Gates<'a> = &'a dyn Fn(&Asked) -> Result<Box<dyn Gate>, String>;
/// A schema and a text to whether the text, with its end, may be written.
pub type Admits<'a> = &'a dyn Fn(&str, &str) -> Result<bool, String>;
/// A token, and its log-probability.
pub type Chosen = Result<(u32, f64), String>;
/// Parameters, the tokens allowed and logits to what is chosen.
pub type Choose<'a> = &'a dyn Fn(&SamplingParams, &[u32], &[f32]) -> Chosen;

/// Where a stream goes wrong: what is before it may be written, the token after it not.
const HERE: char = '⊘';

const CITY: Wish = Wish::Schema(
    r#"{"type":"object","properties":{"city":{"type":"string"}},"required":["city"],"additionalProperties":false}"#,
);
/// An answer of a format, without functions.
const FORMAT: Asked = Asked { answer: Some(CITY), calls: &[] };
/// The same beside a function of its own schema and one without.
const BOTH: Asked = Asked { answer: Some(CITY), calls: &[("find", CITY), ("note", Wish::Free)] };
/// Text, or a call.
const TOOLS: Asked = Asked { answer: Some(Wish::Free), calls: &[("find", CITY), ("note", Wish::Free)] };
/// One of two calls, whose names begin alike.
const FORCED: Asked = Asked { answer: None, calls: &[("find", CITY), ("find_all", CITY)] };

const THOUGHT: &str = "<|channel|>analysis<|message|>Not {JSON} yet: \"hm\" <end>.<|end|><|start|>assistant";

/// Streams; without [`HERE`], whole ones.  `THOUGHT` stands for reasoning.
const STREAMS: &[(Asked, &str)] = &[
    (FORMAT, r#"<|channel|>final<|message|>{"city":"Oslo"}<|return|>"#),
    (FORMAT, r#"THOUGHT<|channel|>final<|message|>{"city":"Oslo"}<|return|>"#),
    (FORMAT, r#"THOUGHTTHOUGHT<|channel|>final<|message|>{"city": "Oslo"}<|return|>"#),
    (FORMAT, r#"<|channel|>final<|message|>⊘Sure: {"city":"Oslo"}"#),
    (FORMAT, r#"<|channel|>final<|message|>{"city":"Oslo⊘<|return|>"#),
    (FORMAT, r#"<|channel|>final<|message|>{"city":"Oslo"}⊘<|call|>"#),
    (FORMAT, r#"<|channel|>final<|message|>{"city":"Oslo"}⊘ And more"#),
    (FORMAT, "<|channel|>analysis<|message|>Done.⊘<|return|>"),
    (FORMAT, "<|channel|>analysis<|message|>Hm.⊘<|channel|>final"),
    (FORMAT, "<|channel|>final⊘ <|constrain|>json"),
    (FORMAT, "⊘Sure"),
    (FORMAT, "<|channel|>⊘commentary to=functions.find"),
    (FORMAT, "THOUGHT⊘ to=functions.find<|channel|>commentary"),
    (BOTH, r#"THOUGHT<|channel|>final<|message|>{"city":"Oslo"}<|return|>"#),
    (BOTH, r#"THOUGHT<|channel|>commentary to=functions.find <|constrain|>json<|message|>{"city":"Oslo"}<|call|>"#),
    (BOTH, r#"<|channel|>commentary<|message|>One moment.<|end|><|start|>assistant<|channel|>analysis<|message|>"#),
    (BOTH, r#"<|channel|>commentary to=functions.note<|message|>a note, not JSON<|call|>"#),
    (BOTH, r#"<|channel|>commentary to=functions.find <|constrain|>json<|message|>{"city":⊘3"#),
    (BOTH, r#"<|channel|>commentary to=functions.find <|constrain|>json<|message|>{"city":"Oslo"}⊘<|return|>"#),
    (BOTH, "<|channel|>commentary to=functions⊘.search"),
    (BOTH, "<|channel|>final<|message|>⊘Sure"),
    (TOOLS, "THOUGHT<|channel|>final<|message|>Just words, {not JSON}.<|return|>"),
    (TOOLS, r#" to=functions.find<|channel|>commentary <|constrain|>json<|message|>{"city":"Oslo"}<|call|>"#),
    (TOOLS, "<|channel|>commentary to=functions.find<|message|>⊘Oslo"),
    (TOOLS, "<|channel|>final<|message|>Words⊘<|end|>"),
    (FORCED, r#"<|channel|>commentary to=functions.find_all <|constrain|>json<|message|>{"city":"Oslo"}<|call|>"#),
    (FORCED, r#"THOUGHT<|channel|>commentary to=functions.find<|message|>{"city": "Oslo"}<|call|>"#),
    (FORCED, "THOUGHT<|channel|>⊘final<|message|>"),
    (FORCED, "<|channel|>commentary to=functions.find<|message|>{⊘}"),
    (FORCED, "<|channel|>commentary to=functions.find<|message|>⊘<|call|>"),
    (FORCED, "THOUGHT<|channel|>commentary to=functions.find⊘_some"),
];

/// Checks of ours.
pub fn run() -> Vec<Check> {
    [stream_checks(&ours), schema_checks(&admits), id_checks(&ours), draw_checks(&choose)].concat()
}

struct Ours(Constraint);

impl Gate for Ours {
    fn allows(&mut self, id: u32) -> bool {
        self.0.allowed().is_ok_and(|allowed| allowed.contains(id))
    }

    fn take(&mut self, id: u32) {
        // What is not allowed is not taken.
        let _ = self.0.take(id);
    }
}

/// Ours.
pub fn ours(asked: &Asked) -> Result<Box<dyn Gate>, String> {
    let call = |(name, wish): &(&str, Wish)| Ok(Callable { name: name.to_string(), arguments: bound(wish)? });
    let calls = asked.calls.iter().map(call).collect::<Result<_, String>>()?;
    let form = Form { answer: asked.answer.as_ref().map(bound).transpose()?, calls };
    let constraint = Constraint::new(form, Tokenizer::o200k_harmony()).map_err(|e| e.to_string())?;
    Ok(Box::new(Ours(constraint)))
}

fn bound(wish: &Wish) -> Result<Text, String> {
    match wish {
        Wish::Free => Ok(Text::Free),
        Wish::Schema(schema) => grammar(schema).map(Text::Bound),
    }
}

fn grammar(schema: &str) -> Result<Grammar, String> {
    let schema: Json = serde_json::from_str(schema).map_err(|e| e.to_string())?;
    Grammar::of_schema(&schema).map_err(|e| e.to_string())
}

/// Ours: the text behind its header, and `<|return|>`.
pub fn admits(schema: &str, text: &str) -> Result<bool, String> {
    let form = Form { answer: Some(Text::Bound(grammar(schema)?)), calls: Vec::new() };
    let mut gate = Ours(Constraint::new(form, Tokenizer::o200k_harmony()).map_err(|e| e.to_string())?);
    let text = Tokenizer::o200k_harmony().encode(text).map_err(|e| e.to_string())?;
    let ids = [ids("<|channel|>final<|message|>")?, text, vec![special::RETURN]].concat();
    Ok(admitted(&mut gate, &ids) == ids.len())
}

/// Ours.
pub fn choose(params: &SamplingParams, allowed: &[u32], logits: &[f32]) -> Chosen {
    let mut masked = Vec::new();
    Allowed::These(allowed.to_vec()).mask(logits, &mut masked);
    chosen(params, &masked, logits)
}

/// The sampler's choice from `masked`, with its log-probability in `logits`.
pub fn chosen(params: &SamplingParams, masked: &[f32], logits: &[f32]) -> Chosen {
    let params = SamplingParams { logprobs: Some(0), ..params.clone() };
    let mut sampler = Sampler::new(params, logits.len()).map_err(|e| e.to_string())?;
    let sampled = sampler.sample_masked(masked, logits).map_err(|e| e.to_string())?;
    Ok((sampled.token, sampled.logprob.unwrap_or(f64::NAN)))
}

/// How many of `ids` may be written, one after the other.
fn admitted(gate: &mut dyn Gate, ids: &[u32]) -> usize {
    let takes = |id: &&u32| {
        let allows = gate.allows(**id);
        gate.take(**id);
        allows
    };
    ids.iter().take_while(takes).count()
}

fn ids(script: &str) -> Result<Vec<u32>, String> {
    Tokenizer::o200k_harmony().encode_with_all_specials(script).map_err(|e| e.to_string())
}

/// Every stream may be written as far as it should.
pub fn stream_checks(gates: Gates<'_>) -> Vec<Check> {
    let judge = |(asked, script): &(Asked, &str)| {
        let said = script.replace("THOUGHT", THOUGHT);
        let (right, wrong) = said.split_once(HERE).unwrap_or((&said, ""));
        let (right, wrong) = (ids(right)?, ids(wrong)?);
        let mut gate = gates(asked)?;
        match admitted(&mut *gate, &right) {
            found if found < right.len() => Err(format!("`{script}` must stop after {found} tokens")),
            _ if wrong.first().is_some_and(|&id| gate.allows(id)) => Err(format!("`{script}` may go on")),
            _ => Ok(()),
        }
    };
    vec![of_cases("text/constraint/streams", STREAMS.iter().map(judge))]
}

/// Every text may be written exactly if the validator accepts it.
pub fn schema_checks(admits: Admits<'_>) -> Vec<Check> {
    let name = "text/constraint/schemas";
    with_golden("text/schemas", name, LEVEL, |golden| {
        let judge = |(case, value): (&String, &Value)| {
            let texts = value["texts"].as_array().into_iter().flatten();
            texts.into_iter().try_for_each(|verdict| {
                let found = admits(text(&value["schema"]), text(&verdict["text"]))?;
                match verdict["valid"].as_bool() == Some(found) {
                    true => Ok(()),
                    false => Err(format!("{case}: {} may be written: {found}", verdict["text"])),
                }
            })
        };
        vec![of_cases(name, golden.as_object().into_iter().flatten().map(judge))]
    })
}

/// Nowhere in a stream that is whole may a control token come that Harmony has no place for, least of all a reserved one.
pub fn id_checks(gates: Gates<'_>) -> Vec<Check> {
    let whole = STREAMS.iter().filter(|(_, script)| !script.contains(HERE));
    let judge = |(asked, script): &(Asked, &str)| {
        let (mut gate, mut is_text) = (gates(asked)?, false);
        for id in ids(&script.replace("THOUGHT", THOUGHT))? {
            let places: &[u32] = match is_text {
                true => &[special::END, special::RETURN, special::CALL],
                false => &[special::START, special::CHANNEL, special::CONSTRAIN, special::MESSAGE],
            };
            let stray = (TEXT_TOKENS..VOCABULARY + 64).find(|id| !places.contains(id) && gate.allows(*id));
            if let Some(stray) = stray {
                return Err(format!("`{script}`: token {stray} may come before token {id}"));
            }
            gate.take(id);
            is_text = if is_text { !places.contains(&id) } else { id == special::MESSAGE };
        }
        Ok(())
    };
    vec![of_cases("text/constraint/ids", whole.map(judge))]
}

/// What is chosen is allowed, whatever bias speaks against it, and its log-probability is the model's.
pub fn draw_checks(choose: Choose<'_>) -> Vec<Check> {
    let (logits, allowed) = ([3.0, -1.5, 2.0, 60.0, 0.5, -8.0, 2.5, 1.0_f32], [1, 4, 5, 7]);
    let cases = (0..48).map(|seed| {
        let temperature = if seed % 4 == 0 { 0.0 } else { 1.0 };
        let bias = if seed % 3 == 0 { [(3, 100.0), (7, -100.0)].into() } else { Default::default() };
        SamplingParams { seed, temperature, logit_bias: bias, presence_penalty: 0.5, ..SamplingParams::default() }
    });
    let judge = |params: SamplingParams| {
        let (token, logprob) = choose(&params, &allowed, &logits)?;
        if !allowed.contains(&token) {
            return Err(format!("seed {}: token {token} is not allowed", params.seed));
        }
        let sum: f64 = logits.iter().map(|&logit| (f64::from(logit) - 60.0).exp()).sum();
        let want = f64::from(logits[token as usize]) - 60.0 - sum.ln();
        match (logprob - want).abs() <= 1e-9 {
            true => Ok(()),
            false => Err(format!("seed {}: a log-probability of {logprob:.6}, the model's is {want:.6}", params.seed)),
        }
    };
    vec![of_cases("text/constraint/draws", cases.map(judge))]
}
