//! `gptoss logits`: the logits of a token list, as a SafeTensors file.

use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use clap::Args;
use cubecl::future::block_on;

use super::model::{ModelArgs, session_failure};
use super::{Failure, Outcome, output_exit};
use crate::exit::Exit;
use crate::generate::session::Want;
use crate::output::PendingFile;

/// Tokens in, logits out.
#[derive(Debug, Args)]
pub(super) struct LogitsArgs {
    #[command(flatten)]
    model: ModelArgs,
    /// The token ids, separated by commas
    #[arg(long, value_name = "IDS", value_delimiter = ',', required_unless_present = "tokens_file")]
    tokens: Vec<u32>,
    /// A JSON list of token ids
    #[arg(long, value_name = "FILE", conflicts_with = "tokens")]
    tokens_file: Option<PathBuf>,
    /// Which positions: all, last, or a list separated by commas
    #[arg(long, value_name = "WHICH", default_value = "last", value_parser = which)]
    positions: Which,
    /// A JSON list of vocabulary ids: only their logits are written, in that order
    #[arg(long, value_name = "FILE")]
    vocab_ids: Option<PathBuf>,
    /// The file to write: tensor "logits", f32 [positions, vocab]; it appears whole or not at all
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
}

#[derive(Debug, Clone)]
enum Which {
    All,
    Last,
    These(Vec<usize>),
}

fn which(text: &str) -> Result<Which, String> {
    match text {
        "all" => Ok(Which::All),
        "last" => Ok(Which::Last),
        list => {
            let ids: Result<Vec<usize>, _> = list.split(',').map(|id| id.trim().parse()).collect();
            let mut ids = ids.map_err(|_| "`all`, `last`, or positions separated by commas".to_string())?;
            ids.sort_unstable();
            ids.dedup();
            Ok(Which::These(ids))
        }
    }
}

/// A JSON list of ids.
fn id_list(path: &Path) -> Result<Vec<u32>, Failure> {
    let wrong = |what: String| {
        Failure::new(
            Exit::Input,
            format!("{}: {what}", path.display()),
            "a JSON list of token ids, for example [1,2,3]",
        )
    };
    let text = std::fs::read(path).map_err(|e| wrong(e.to_string()))?;
    serde_json::from_slice(&text).map_err(|e| wrong(format!("expected a list of ids: {e}")))
}

/// Runs the command.
pub(super) fn run(args: &LogitsArgs) -> Outcome {
    let tokens = match &args.tokens_file {
        Some(path) => id_list(path)?,
        None => args.tokens.clone(),
    };
    let columns = args.vocab_ids.as_deref().map(id_list).transpose()?;
    let positions: Vec<usize> = match &args.positions {
        Which::All => (0..tokens.len()).collect(),
        Which::Last => tokens.len().checked_sub(1).into_iter().collect(),
        Which::These(positions) => positions.clone(),
    };
    if let Some(far) = positions.iter().find(|&&position| position >= tokens.len()) {
        let message = format!("position {far} is asked for, the prompt has {} tokens", tokens.len());
        return Err(Failure::new(Exit::Usage, message, "other --positions"));
    }
    let model = args.model.load()?;
    let vocab = model.vocab_rows();
    if let Some(id) = columns.iter().flatten().find(|&&id| id as usize >= vocab) {
        let message = format!("--vocab-ids: id {id} is outside the vocabulary of {vocab} rows");
        return Err(Failure::new(Exit::Input, message, "other ids"));
    }
    let mut session = args.model.session(&model)?;
    let failed = |error: std::io::Error| {
        Failure::new(output_exit(&error), format!("{}: {error}", args.out.display()), "choose another --out")
    };
    let pending = PendingFile::create(&args.out).map_err(failed)?;
    let mut file = BufWriter::new(pending.file());
    let width = columns.as_ref().map_or(vocab, Vec::len);
    let mut written = file.write_all(&header(positions.len(), width));
    let mut sink = |_: usize, row: &[f32]| {
        let cell = |i: usize| row[columns.as_ref().map_or(i, |ids| ids[i] as usize)];
        let bytes: Vec<u8> = (0..width).flat_map(|i| cell(i).to_le_bytes()).collect();
        if written.is_ok() {
            written = file.write_all(&bytes);
        }
    };
    block_on(session.run(&tokens, Want::These(&positions), None, &mut sink)).map_err(session_failure)?;
    written.and_then(|()| file.flush()).map_err(failed)?;
    drop(file);
    pending.commit().map_err(failed)?;
    super::print(|out| {
        writeln!(out, "{}: logits of {} positions, {width} values each", args.out.display(), positions.len())
    })?;
    Ok(Exit::Ok)
}

/// A SafeTensors header of one tensor `logits`, padded to a multiple of 8 bytes.
fn header(rows: usize, width: usize) -> Vec<u8> {
    let tensor = serde_json::json!({
        "logits": { "dtype": "F32", "shape": [rows, width], "data_offsets": [0, rows * width * 4] }
    });
    let mut text = tensor.to_string();
    while !text.len().is_multiple_of(8) {
        text.push(' ');
    }
    [(text.len() as u64).to_le_bytes().as_slice(), text.as_bytes()].concat()
}
