//! `gptoss-verify oracle`: the logits that the f64 oracle gives a token list, as a SafeTensors file.
//!
//! For other people's comparisons: a peer's logits can be held against it, with the rotary embedding of gpt-oss or of ggml.

use std::path::PathBuf;

use clap::Args;

use super::asked::{Asked, LogitsFile};
use super::model::Rope;
use super::{Failure, Outcome};
use crate::checkpoint::WeightSource;
use crate::exit::Exit;
use crate::open::AnyCheckpoint;
use crate::output::PendingFile;
use crate::verify::oracle::{Oracle, Positions, Request, Semantics, Vocab};

/// A checkpoint and tokens in, logits out.
#[derive(Debug, Args)]
pub(super) struct OracleArgs {
    /// The checkpoint to run; plain loops in f64 on the processor run it, so a small one
    #[arg(long, value_name = "CHECKPOINT")]
    model: PathBuf,
    /// How far rotary frequencies are scaled: as gpt-oss was trained, or as llama.cpp has them
    #[arg(long, value_enum, default_value_t = Rope::Reference)]
    rope: Rope,
    #[command(flatten)]
    asked: Asked,
}

/// Runs the command.
pub(super) fn run(args: &OracleArgs) -> Outcome {
    let asked = &args.asked;
    let wanted = asked.read()?;
    let next = format!("gptoss-verify inspect {}", args.model.display());
    let checkpoint = AnyCheckpoint::open(&args.model).map_err(|e| Failure::new(Exit::Input, e, next))?;
    let source = checkpoint.source();
    check_tokens(&wanted.tokens, source)?;
    wanted.check_columns(source.vocab_rows())?;
    let semantics = match args.rope {
        Rope::Reference => Semantics::gpt_oss(source.config()),
        Rope::GgmlCompat => Semantics::ggml_compat(source.config()),
    };
    let failed = |error| asked.failed(error);
    let pending = PendingFile::create(&asked.out).map_err(failed)?;
    let ask = Request {
        positions: Positions::These(&wanted.positions),
        vocab: wanted.columns.as_deref().map_or(Vocab::All, Vocab::These),
        ..Request::default()
    };
    let rows = Oracle::with(source, semantics).forward::<f64>(&wanted.tokens, &ask, &mut |_, _, _| {});
    let mut file = LogitsFile::begin(&pending, ("F64", 8), rows.count(), rows.width).map_err(failed)?;
    for row in rows.iter() {
        let bytes: Vec<u8> = row.iter().flat_map(|logit| logit.to_le_bytes()).collect();
        file.write(&bytes).map_err(failed)?;
    }
    file.end().map_err(failed)?;
    pending.commit().map_err(failed)?;
    super::print(|out| {
        writeln!(out, "{}: logits of {} positions, {} values each", asked.out.display(), rows.count(), rows.width)
    })?;
    Ok(Exit::Ok)
}

/// The oracle takes right ids for granted.
fn check_tokens(tokens: &[u32], source: &dyn WeightSource) -> Result<(), Failure> {
    let rows = source.vocab_rows();
    let message = match tokens.iter().find(|&&token| token as usize >= rows) {
        None if !tokens.is_empty() => return Ok(()),
        None => "there are no tokens".to_string(),
        Some(token) => format!("token {token} is outside the vocabulary of {rows} rows"),
    };
    Err(Failure::new(Exit::Input, message, "other tokens"))
}
