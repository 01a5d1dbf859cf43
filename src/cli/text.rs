//! `gptoss tokenize` and `gptoss harmony`: text and conversations to token ids, and back.

use std::io::{Read, Write};
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand, ValueEnum};

use super::{Failure, Outcome, print};
use crate::exit::Exit;
use crate::generate::harmony::{Analysis, Conversation, Mode, Renderer, Role, StreamParser};
use crate::generate::tokenizer::Tokenizer;

/// Text to ids, or ids to text.
#[derive(Debug, Args)]
pub(super) struct TokenizeArgs {
    /// The text, or with --decode the ids; `-` or nothing: standard input
    #[arg(value_name = "TEXT", default_value = "-", allow_hyphen_values = true)]
    text: String,
    /// Turn ids, separated by blanks or commas, back into text: its exact bytes
    #[arg(long)]
    decode: bool,
    /// Read the names of special tokens, such as <|start|>, as those tokens; otherwise they are plain text
    #[arg(long, conflicts_with = "decode")]
    allow_special: bool,
    /// Print JSON: every id with its piece of text, and its bytes where they are no text
    #[arg(long)]
    json: bool,
}

/// Conversations to ids, or ids to messages.
#[derive(Debug, Subcommand)]
pub(super) enum HarmonyCommand {
    /// Print the ids of a conversation
    Render {
        /// A conversation in openai-harmony's JSON form; `-`: standard input
        file: PathBuf,
        /// Who speaks next: the ids end in the beginning of that message
        #[arg(long, value_name = "ROLE", value_enum, conflicts_with = "training")]
        next_role: Option<RoleName>,
        /// As in training: the last answer ends in <|return|>
        #[arg(long)]
        training: bool,
        /// Keep the thoughts that led to earlier answers
        #[arg(long)]
        keep_analysis: bool,
        /// Print a JSON list
        #[arg(long)]
        json: bool,
    },
    /// Print the messages of ids on standard input, as {"messages": […]}
    Parse {
        /// Who is speaking, where the ids begin after <|start|> and the role
        #[arg(long, value_name = "ROLE", value_enum)]
        role: Option<RoleName>,
        /// Keep what can be kept of malformed ids, and say what was wrong
        #[arg(long)]
        lenient: bool,
        /// Print JSON on one line
        #[arg(long)]
        json: bool,
    },
}

/// A role on the command line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum RoleName {
    System,
    Developer,
    User,
    Assistant,
    Tool,
}

impl From<RoleName> for Role {
    fn from(name: RoleName) -> Role {
        match name {
            RoleName::System => Role::System,
            RoleName::Developer => Role::Developer,
            RoleName::User => Role::User,
            RoleName::Assistant => Role::Assistant,
            RoleName::Tool => Role::Tool,
        }
    }
}

fn input(error: impl ToString, next: &str) -> Failure {
    Failure::new(Exit::Input, error, next)
}

/// A file, or standard input for `-`, as text.
pub(super) fn read(path: &Path) -> Result<String, Failure> {
    let (name, bytes) = if path.as_os_str() == "-" {
        let mut bytes = Vec::new();
        ("standard input".into(), std::io::stdin().lock().read_to_end(&mut bytes).map(|_| bytes))
    } else {
        (path.display().to_string(), std::fs::read(path))
    };
    let bytes = bytes.map_err(|e| input(format!("{name}: {e}"), "another file"))?;
    String::from_utf8(bytes).map_err(|e| input(format!("{name}: not UTF-8: {e}"), "text as UTF-8"))
}

/// Ids separated by blanks or commas, in brackets or not.
pub(super) fn read_ids(text: &str) -> Result<Vec<u32>, Failure> {
    let is_between = |c: char| c.is_whitespace() || matches!(c, ',' | '[' | ']');
    let id =
        |word: &str| word.parse().map_err(|_| input(format!("`{word}` is no token id"), "ids such as 200006 1428"));
    text.split(is_between).filter(|word| !word.is_empty()).map(id).collect()
}

/// Prints bytes as they are.
fn raw(bytes: &[u8]) -> Result<(), Failure> {
    let mut out = std::io::stdout().lock();
    match out.write_all(bytes).and_then(|()| out.flush()) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => {
            Err(Failure::new(Exit::Internal, format!("stdout: {error}"), "check where the output goes"))
        }
        _ => Ok(()),
    }
}

fn print_ids(ids: &[u32], json: bool) -> Result<(), Failure> {
    let words: Vec<String> = ids.iter().map(u32::to_string).collect();
    print(|out| if json { writeln!(out, "[{}]", words.join(",")) } else { writeln!(out, "{}", words.join(" ")) })
}

/// Runs `gptoss tokenize`.
pub(super) fn tokenize(args: &TokenizeArgs) -> Outcome {
    let tokenizer = Tokenizer::o200k_harmony();
    let text = if args.text == "-" { read(Path::new("-"))? } else { args.text.clone() };
    let failed = |e| input(e, "gptoss tokenize --help");
    let ids = match (args.decode, args.allow_special) {
        (true, _) => read_ids(&text)?,
        (false, true) => tokenizer.encode_with_all_specials(&text).map_err(failed)?,
        (false, false) => tokenizer.encode(&text).map_err(failed)?,
    };
    if args.json {
        let piece = |&id: &u32| {
            let bytes = tokenizer.decode_bytes(&[id]).map_err(failed)?;
            Ok(match String::from_utf8(bytes) {
                Ok(piece) => serde_json::json!({ "id": id, "piece": piece }),
                Err(error) => serde_json::json!({ "id": id, "bytes": error.as_bytes() }),
            })
        };
        let pieces = ids.iter().map(piece).collect::<Result<Vec<_>, Failure>>()?;
        let text = tokenizer.decode(&ids).map_err(failed)?;
        print(|out| writeln!(out, "{:#}", serde_json::json!({ "tokens": pieces, "text": text })))?;
    } else if args.decode {
        raw(&tokenizer.decode_bytes(&ids).map_err(failed)?)?;
    } else {
        print_ids(&ids, false)?;
    }
    Ok(Exit::Ok)
}

/// Runs `gptoss harmony`.
pub(super) fn harmony(command: &HarmonyCommand) -> Outcome {
    let tokenizer = Tokenizer::o200k_harmony();
    match command {
        HarmonyCommand::Render { file, next_role, training, keep_analysis, json } => {
            let text = read(file)?;
            let failed =
                |e: String| input(format!("{}: {e}", file.display()), "a conversation in openai-harmony's JSON form");
            let conversation = Conversation::from_json(&text).map_err(|e| failed(e.to_string()))?;
            let analysis = if *keep_analysis { Analysis::Keep } else { Analysis::DropAnswered };
            let renderer = Renderer::new(tokenizer);
            let ids = match (next_role, training) {
                (Some(role), _) => renderer.for_completion(&conversation, (*role).into(), analysis),
                (None, true) => renderer.for_training(&conversation, analysis),
                (None, false) => renderer.conversation(&conversation, analysis),
            };
            print_ids(&ids.map_err(|e| failed(e.to_string()))?, *json)?;
            Ok(Exit::Ok)
        }
        HarmonyCommand::Parse { role, lenient, json } => {
            let ids = read_ids(&read(Path::new("-"))?)?;
            let mode = if *lenient { Mode::Lenient } else { Mode::Strict };
            let mut parser = StreamParser::new(tokenizer, mode, role.map(Role::from));
            let result = parser.process_all(ids).and_then(|()| parser.finish());
            let problems: Vec<serde_json::Value> = parser
                .problems()
                .iter()
                .map(|p| serde_json::json!({ "position": p.position, "kind": p.kind.name(), "text": p.kind.to_string() }))
                .collect();
            let mut report = serde_json::json!({ "messages": parser.into_messages() });
            if *lenient {
                report["problems"] = problems.into();
            }
            print(|out| if *json { writeln!(out, "{report}") } else { writeln!(out, "{report:#}") })?;
            // What was completed has been printed: an error loses nothing.
            result.map(|()| Exit::Ok).map_err(|e| input(e, "gptoss harmony parse --lenient"))
        }
    }
}
