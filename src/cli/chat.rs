//! `gptoss chat`: a conversation on the terminal.

use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};
use rustyline::DefaultEditor;
use rustyline::error::ReadlineError;

use super::generate::{SamplingArgs, Told, run_turn};
use super::model::ModelArgs;
use super::speaker::Speaker;
use super::text::read;
use super::{Failure, Outcome, output_exit};
use crate::exit::Exit;
use crate::generate::harmony::{
    Analysis, Content, Conversation, DeveloperContent, Message, ReasoningEffort, Renderer, Role,
    STOP_TOKENS_OF_ACTIONS, SystemContent,
};
use crate::generate::sampling::SamplingParams;
use crate::generate::session::Session;
use crate::generate::stop::{FinishReason, StopRules};
use crate::generate::tokenizer::Tokenizer;

/// A model, and how it is to answer.
#[derive(Debug, Args)]
pub(super) struct ChatArgs {
    #[command(flatten)]
    model: ModelArgs,
    #[command(flatten)]
    sampling: SamplingArgs,
    /// Instructions for the whole conversation (the developer message)
    #[arg(long, value_name = "TEXT")]
    system: Option<String>,
    /// How long the model thinks before it answers
    #[arg(long, value_enum, default_value_t = Effort::Medium)]
    effort: Effort,
    /// Show answers only, not the thoughts before them
    #[arg(long)]
    hide_thoughts: bool,
    /// Go on with a conversation that /save wrote
    #[arg(long, value_name = "FILE")]
    load: Option<PathBuf>,
}

/// Reasoning effort on the command line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Effort {
    Low,
    Medium,
    High,
}

impl From<Effort> for ReasoningEffort {
    fn from(effort: Effort) -> Self {
        match effort {
            Effort::Low => ReasoningEffort::Low,
            Effort::Medium => ReasoningEffort::Medium,
            Effort::High => ReasoningEffort::High,
        }
    }
}

const HELP: &str = "\
/system TEXT   new instructions (none: no instructions)    /effort low|medium|high
/save FILE     the conversation as Harmony JSON            /load FILE
/stats         tokens, rates, memory                       /reset   forget the conversation
/help                                                      /quit, or Ctrl-D
Ctrl-C ends an answer and keeps the conversation.";

/// What was said, and how to go on.
struct Chat {
    session: Session,
    renderer: Renderer,
    tokenizer: Tokenizer,
    params: SamplingParams,
    sampling: SamplingArgs,
    thoughts: bool,
    instructions: Option<String>,
    effort: ReasoningEffort,
    /// Everything after system and developer.
    messages: Vec<Message>,
    last: Option<Told>,
}

/// Runs the command.
pub(super) fn run(args: &ChatArgs) -> Outcome {
    let model = args.model.load_for_text()?;
    let tokenizer = Tokenizer::o200k_harmony();
    let mut chat = Chat {
        session: args.model.session(&model)?,
        renderer: Renderer::new(tokenizer),
        tokenizer,
        params: args.sampling.params(),
        sampling: args.sampling.clone(),
        thoughts: !args.hide_thoughts,
        instructions: args.system.clone(),
        effort: args.effort.into(),
        messages: Vec::new(),
        last: None,
    };
    if let Some(file) = &args.load {
        chat.load(file)?;
    }
    let broken = |e: ReadlineError| Failure::new(Exit::Internal, format!("terminal: {e}"), "gptoss generate");
    let mut editor = DefaultEditor::new().map_err(broken)?;
    let history = history_file();
    if let Some(file) = &history {
        let _ = editor.load_history(file);
    }
    eprintln!("{} on {}; /help tells what there is", args.model.model.display(), model.compute().report().name);
    loop {
        let line = match editor.readline("> ") {
            Ok(line) => line,
            Err(ReadlineError::Interrupted) => continue,
            Err(ReadlineError::Eof) => break,
            Err(error) => return Err(broken(error)),
        };
        let line = line.trim();
        if line.is_empty() {
            continue;
        }
        let _ = editor.add_history_entry(line);
        if line == "/quit" {
            break;
        }
        // A wrong command or an answer that failed ends nothing but itself.
        let done = if line.starts_with('/') { chat.command(line) } else { chat.say(line) };
        match done {
            Err(failure) if failure.exit == Exit::Internal => return Err(failure),
            Err(failure) => eprintln!("{}", failure.message),
            Ok(()) => {}
        }
    }
    if let Some(file) = &history {
        let _ = editor.save_history(file);
    }
    Ok(Exit::Ok)
}

/// Where lines are remembered: the user's state folder, if there is one.
fn history_file() -> Option<PathBuf> {
    let state = std::env::var_os("XDG_STATE_HOME").filter(|path| !path.is_empty()).map(PathBuf::from);
    let folder = state.or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(".local/state")))?.join("gptoss");
    std::fs::create_dir_all(&folder).ok()?;
    Some(folder.join("chat-history"))
}

impl Chat {
    /// The conversation as it is rendered.
    fn conversation(&self) -> Conversation {
        let system = SystemContent { reasoning_effort: Some(self.effort), ..SystemContent::default() };
        let mut messages = vec![Message::new(Role::System, Content::SystemContent(system))];
        if let Some(instructions) = &self.instructions {
            let content = DeveloperContent { instructions: Some(instructions.clone()), tools: None };
            messages.push(Message::new(Role::Developer, Content::DeveloperContent(content)));
        }
        messages.extend(self.messages.iter().cloned());
        Conversation { messages }
    }

    /// A turn: what the user says, and what the model answers.
    fn say(&mut self, text: &str) -> Result<(), Failure> {
        self.messages.push(Message::new(Role::User, text));
        let answered = self.answer();
        if answered.is_err() {
            self.messages.pop();
        }
        answered
    }

    fn answer(&mut self) -> Result<(), Failure> {
        let prompt = self.renderer.for_completion(&self.conversation(), Role::Assistant, Analysis::DropAnswered);
        let prompt = prompt.map_err(|e| Failure::new(Exit::Input, e, "/reset"))?;
        let rules = StopRules {
            tokens: STOP_TOKENS_OF_ACTIONS.into_iter().collect(),
            strings: self.sampling.stop.clone(),
            max_tokens: self.sampling.max_tokens,
        };
        let mut speaker = Speaker::new(self.tokenizer, true, false, self.thoughts);
        let told = run_turn(&mut self.session, &prompt, &self.params, None, rules, &mut speaker)?;
        // Another turn draws other numbers; the same seed and lines give the same conversation.
        self.params.seed = self.params.seed.wrapping_add(1);
        let (messages, problems) = speaker.into_messages();
        self.messages.extend(messages);
        println!();
        for problem in problems {
            eprintln!("note: the answer is not well-formed at token {}: {}", problem.position, problem.kind);
        }
        match told.reason {
            FinishReason::Length => eprintln!("note: it ends here for want of room (--max-tokens, --context)"),
            FinishReason::Cancelled => eprintln!("note: interrupted"),
            FinishReason::Stop => {}
        }
        self.last = Some(told);
        Ok(())
    }

    fn command(&mut self, line: &str) -> Result<(), Failure> {
        let (name, rest) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
        let rest = rest.trim();
        let usage = |what: &str| Err(Failure::new(Exit::Usage, what, "/help"));
        match (name, rest) {
            ("/help", _) => eprintln!("{HELP}"),
            ("/reset", _) => self.messages.clear(),
            ("/stats", _) => self.stats(),
            ("/system", text) => self.instructions = (!text.is_empty()).then(|| text.into()),
            ("/effort", level) => match Effort::from_str(level, true) {
                Ok(effort) => self.effort = effort.into(),
                Err(_) => return usage("/effort takes low, medium or high"),
            },
            ("/save" | "/load", "") => return usage("which file?"),
            ("/save", file) => return self.save(Path::new(file)),
            ("/load", file) => return self.load(Path::new(file)),
            _ => return usage("no such command: /help tells what there is"),
        }
        Ok(())
    }

    fn stats(&self) {
        if let Some(told) = &self.last {
            eprintln!("{}", told.rates());
        }
        let (cache, room) = (self.session.cache_bytes(), self.session.room());
        let tokens = self.session.tokens().len();
        eprintln!("{tokens} tokens held, room for {room}; caches {} MB", cache / 1_000_000);
    }

    fn save(&self, file: &Path) -> Result<(), Failure> {
        let text =
            serde_json::to_vec_pretty(&self.conversation()).map_err(|e| Failure::new(Exit::Internal, e, "/help"))?;
        crate::output::write(file, &text)
            .map_err(|e| Failure::new(output_exit(&e), format!("{}: {e}", file.display()), "another file"))
    }

    /// Takes a conversation's instructions, effort and messages in place of the present ones.
    fn load(&mut self, file: &Path) -> Result<(), Failure> {
        let failed =
            |e: String| Failure::new(Exit::Input, format!("{}: {e}", file.display()), "a conversation of /save");
        let conversation = Conversation::from_json(&read(file)?).map_err(|e| failed(e.to_string()))?;
        (self.instructions, self.messages) = (None, Vec::new());
        for message in conversation.messages {
            match (message.author.role, message.content.first()) {
                (Role::System, Some(Content::SystemContent(content))) => {
                    self.effort = content.reasoning_effort.unwrap_or(self.effort);
                }
                (Role::Developer, Some(Content::DeveloperContent(content))) if content.tools.is_none() => {
                    self.instructions = content.instructions.clone();
                }
                _ => self.messages.push(message),
            }
        }
        Ok(())
    }
}
