//! `gptoss generate`: a prompt in, a stream of text out.

use std::path::PathBuf;
use std::time::Instant;

use clap::Args;

use super::model::{ModelArgs, session_failure};
use super::progress::Turns;
use super::speaker::Speaker;
use super::text::{read, read_ids};
use super::{Failure, Outcome};
use crate::exit::Exit;
use crate::generate::constraint::{Constraint, Form, Grammar, ROWS_MIN, Text};
use crate::generate::harmony::{Analysis, Conversation, Renderer, Role, STOP_TOKENS_OF_ACTIONS};
use crate::generate::sampling::SamplingParams;
use crate::generate::session::Session;
use crate::generate::stop::{FinishReason, Stop, StopRules};
use crate::generate::tokenizer::{Tokenizer, special};
use crate::generate::turn::{Turn, TurnError};
use crate::verify::resources::Resources;

/// What to go on from, and how.
#[derive(Debug, Args)]
pub(super) struct GenerateArgs {
    #[command(flatten)]
    model: ModelArgs,
    /// Text to go on from, as it is; `-`: standard input
    #[arg(long, value_name = "TEXT", required_unless_present_any = ["tokens", "harmony"], conflicts_with_all = ["tokens", "harmony"])]
    prompt: Option<String>,
    /// Token ids to go on from, separated by commas
    #[arg(long, value_name = "IDS", conflicts_with = "harmony")]
    tokens: Option<String>,
    /// A conversation in openai-harmony's JSON form, which the assistant goes on with; `-`: standard input
    #[arg(long, value_name = "FILE")]
    harmony: Option<PathBuf>,
    /// Hold the answer to the JSON Schema in this file, token by token; the conversation should tell the model of it
    #[arg(long, value_name = "FILE", conflicts_with_all = ["prompt", "tokens"])]
    json_schema: Option<PathBuf>,
    /// Hold the answer to one JSON object
    #[arg(long, conflicts_with_all = ["prompt", "tokens", "json_schema"])]
    json_object: bool,
    #[command(flatten)]
    sampling: SamplingArgs,
    /// Print events as lines of JSON
    #[arg(long)]
    json: bool,
}

/// How tokens are chosen, and when it ends.
#[derive(Debug, Clone, Args)]
pub(super) struct SamplingArgs {
    /// Tokens at most; without it, what the context has room for
    #[arg(long, value_name = "N")]
    pub(super) max_tokens: Option<std::num::NonZeroUsize>,
    /// 0 takes the likeliest token; 1 is the model's own distribution
    #[arg(long, value_name = "T", default_value_t = 1.0)]
    temperature: f64,
    /// Keep the K likeliest tokens; 0: all
    #[arg(long, value_name = "K", default_value_t = 0)]
    top_k: u32,
    /// Keep the likeliest tokens whose mass reaches P
    #[arg(long, value_name = "P", default_value_t = 1.0)]
    top_p: f64,
    /// Keep tokens at least P times as likely as the likeliest
    #[arg(long, value_name = "P", default_value_t = 0.0)]
    min_p: f64,
    /// Divide logits of tokens that occurred, in prompt or output; 1: off
    #[arg(long, value_name = "R", default_value_t = 1.0)]
    repetition_penalty: f64,
    /// Subtract so much for each time a token occurred in the output
    #[arg(long, value_name = "A", default_value_t = 0.0, allow_hyphen_values = true)]
    frequency_penalty: f64,
    /// Subtract so much once from tokens that occurred in the output
    #[arg(long, value_name = "A", default_value_t = 0.0, allow_hyphen_values = true)]
    presence_penalty: f64,
    /// Equal seeds give equal text; without it, one is drawn and printed
    #[arg(long, value_name = "S")]
    seed: Option<u64>,
    /// End at this string, which is not printed; may be given several times
    #[arg(long, value_name = "TEXT")]
    pub(super) stop: Vec<String>,
}

impl SamplingArgs {
    /// The parameters; a seed that was not given comes from the clock.
    pub(super) fn params(&self) -> SamplingParams {
        let clock = || std::time::UNIX_EPOCH.elapsed().map_or(0, |since| since.as_nanos() as u64);
        SamplingParams {
            temperature: self.temperature,
            top_k: self.top_k,
            top_p: self.top_p,
            min_p: self.min_p,
            repetition_penalty: self.repetition_penalty,
            frequency_penalty: self.frequency_penalty,
            presence_penalty: self.presence_penalty,
            seed: self.seed.unwrap_or_else(clock),
            ..SamplingParams::default()
        }
    }
}

/// What a turn's error means for the caller.
pub(super) fn turn_failure(error: TurnError) -> Failure {
    match error {
        TurnError::Session(error) => session_failure(error),
        TurnError::Params(error) => Failure::new(Exit::Usage, error, "gptoss generate --help"),
        TurnError::Sample(error) => Failure::new(Exit::Internal, error, "gptoss-verify check MODEL --level logits"),
        TurnError::Constraint(error) => Failure::new(Exit::Internal, error, "a simpler --json-schema"),
    }
}

/// How a turn went.
pub(super) struct Told {
    /// Its tokens.
    pub(super) ids: Vec<u32>,
    pub(super) reason: FinishReason,
    prompt_tokens: usize,
    cached: usize,
    prompt_seconds: f64,
    seconds: f64,
}

impl GenerateArgs {
    /// What the answer must be, if it is held to anything.
    fn constraint(&self, tokenizer: Tokenizer) -> Result<Option<Constraint>, Failure> {
        let grammar = match &self.json_schema {
            None if self.json_object => Grammar::of_objects(),
            None => return Ok(None),
            Some(file) => {
                let failed = |e: serde_json::Error| {
                    Failure::new(Exit::Input, format!("{}: {e}", file.display()), "a file with a JSON Schema")
                };
                Grammar::of_schema(&serde_json::from_str(&read(file)?).map_err(failed)?)
            }
        };
        let file = self.json_schema.as_deref().unwrap_or("--json-object".as_ref());
        let failed = |e: String| Failure::new(Exit::Input, format!("{}: {e}", file.display()), "another --json-schema");
        let answer = Some(Text::Bound(grammar.map_err(|e| failed(e.to_string()))?));
        let form = Form { answer, calls: Vec::new() };
        Constraint::new(form, tokenizer).map(Some).map_err(|e| failed(e.to_string()))
    }
}

/// Runs a turn from `prompt` under `constraint`, telling `speaker`, until a rule, the context or an interrupt ends it.
pub(super) fn run_turn(
    session: &mut Session,
    prompt: &[u32],
    params: &SamplingParams,
    constraint: Option<Constraint>,
    rules: StopRules,
    speaker: &mut Speaker,
) -> Result<Told, Failure> {
    let turns = Turns::begin();
    let mut stop = Stop::new(rules).map_err(|e| Failure::new(Exit::Usage, e, "gptoss generate --help"))?;
    let start = Instant::now();
    let mut turn = Turn::begin(session, prompt, params).map_err(turn_failure)?;
    if let Some(constraint) = constraint {
        turn = turn.held_to(constraint);
    }
    let (prompt_seconds, cached) = (start.elapsed().as_secs_f64(), turn.cached);
    let start = Instant::now();
    let mut ids = Vec::new();
    let reason = loop {
        if turns.interrupted() {
            break FinishReason::Cancelled;
        }
        if turn.room() == 0 {
            break FinishReason::Length;
        }
        let chosen = turn.next_token().map_err(turn_failure)?;
        ids.push(chosen.id);
        if let Some(reason) = speaker.token(&chosen, &mut stop)? {
            break reason;
        }
    };
    speaker.end(&mut stop)?;
    let seconds = start.elapsed().as_secs_f64();
    Ok(Told { ids, reason, prompt_tokens: prompt.len(), cached, prompt_seconds, seconds })
}

impl Told {
    /// Rates and memory, for a person.
    pub(super) fn rates(&self) -> String {
        let run = self.prompt_tokens - self.cached;
        format!(
            "{} tokens of prompt ({} cached) in {:.2} s, {:.1} tok/s; {} tokens in {:.2} s, {:.1} tok/s",
            self.prompt_tokens,
            self.cached,
            self.prompt_seconds,
            run as f64 / self.prompt_seconds,
            self.ids.len(),
            self.seconds,
            self.ids.len() as f64 / self.seconds
        )
    }

    fn event(&self, session: &Session, start: Instant) -> serde_json::Value {
        serde_json::json!({
            "event": "done",
            "reason": self.reason,
            "usage": { "prompt_tokens": self.prompt_tokens, "cached_tokens": self.cached, "completion_tokens": self.ids.len() },
            "seconds": { "prompt": self.prompt_seconds, "completion": self.seconds },
            "memory": {
                "cache_bytes": session.cache_bytes(),
                "host_peak_bytes": Resources::since(start).peak_resident_bytes,
            },
        })
    }
}

/// Runs the command.
pub(super) fn run(args: &GenerateArgs) -> Outcome {
    let start = Instant::now();
    let tokenizer = Tokenizer::o200k_harmony();
    let input = |what: String| Failure::new(Exit::Input, what, "gptoss generate --help");
    let (prompt, stops, parsed) = match (&args.prompt, &args.tokens, &args.harmony) {
        (Some(text), ..) => {
            let text = if text == "-" { read("-".as_ref())? } else { text.clone() };
            let ids = tokenizer.encode(&text).map_err(|e| input(e.to_string()))?;
            (ids, vec![special::END_OF_TEXT, special::RETURN, special::CALL], false)
        }
        (_, Some(ids), _) => (read_ids(ids)?, vec![special::END_OF_TEXT, special::RETURN, special::CALL], false),
        (_, _, file) => {
            let file = file.clone().unwrap_or_default();
            let failed = |e: String| input(format!("{}: {e}", file.display()));
            let conversation = Conversation::from_json(&read(&file)?).map_err(|e| failed(e.to_string()))?;
            let ids = Renderer::new(tokenizer).for_completion(&conversation, Role::Assistant, Analysis::DropAnswered);
            (ids.map_err(|e| failed(e.to_string()))?, STOP_TOKENS_OF_ACTIONS.to_vec(), true)
        }
    };
    if prompt.is_empty() {
        return Err(input("the prompt has no token".into()));
    }
    let (params, constraint) = (args.sampling.params(), args.constraint(tokenizer)?);
    let model = args.model.load_for_text()?;
    if constraint.is_some() && model.vocab_rows() < ROWS_MIN {
        let rows = model.vocab_rows();
        let message = format!("--json-schema takes a vocabulary of {ROWS_MIN} rows, the model has {rows}");
        return Err(Failure::new(Exit::Input, message, "a model with the whole vocabulary"));
    }
    params.validate_for(model.vocab_rows()).map_err(|e| turn_failure(e.into()))?;
    let mut session = args.model.session(&model)?;
    let rules = StopRules {
        tokens: stops.into_iter().collect(),
        strings: args.sampling.stop.clone(),
        max_tokens: args.sampling.max_tokens,
    };
    let mut speaker = Speaker::new(tokenizer, parsed, args.json, true);
    let told = run_turn(&mut session, &prompt, &params, constraint, rules, &mut speaker)?;
    if args.json {
        let event = told.event(&session, start);
        super::print(|out| writeln!(out, "{event}"))?;
    } else {
        let (used, _) = model.compute().memory_bytes();
        let peak = Resources::since(start).peak_resident_bytes.unwrap_or(0);
        eprintln!("\n{}; seed {}", told.rates(), params.seed);
        eprintln!("device {} MB, host at its peak {} MB", used / 1_000_000, peak / 1_000_000);
    }
    Ok(if told.reason == FinishReason::Cancelled { Exit::Interrupted } else { Exit::Ok })
}
