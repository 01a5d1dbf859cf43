//! `gptoss logits`: the logits of a token list, as a SafeTensors file.

use clap::Args;
use cubecl::future::block_on;

use super::Outcome;
use super::asked::{Asked, LogitsFile};
use super::model::{ModelArgs, session_failure};
use crate::exit::Exit;
use crate::generate::session::Want;
use crate::output::PendingFile;

/// Tokens in, logits out.
#[derive(Debug, Args)]
pub(super) struct LogitsArgs {
    #[command(flatten)]
    model: ModelArgs,
    #[command(flatten)]
    asked: Asked,
}

/// Runs the command.
pub(super) fn run(args: &LogitsArgs) -> Outcome {
    let asked = &args.asked;
    let wanted = asked.read()?;
    let model = args.model.load()?;
    let vocab = model.vocab_rows();
    wanted.check_columns(vocab)?;
    let mut session = args.model.session(&model)?;
    let failed = |error| asked.failed(error);
    let pending = PendingFile::create(&asked.out).map_err(failed)?;
    let width = wanted.columns.as_ref().map_or(vocab, Vec::len);
    let mut file = LogitsFile::begin(&pending, ("F32", 4), wanted.positions.len(), width).map_err(failed)?;
    let mut written = Ok(());
    let mut sink = |_: usize, row: &[f32]| {
        let cell = |i: usize| row[wanted.columns.as_ref().map_or(i, |ids| ids[i] as usize)];
        let bytes: Vec<u8> = (0..width).flat_map(|i| cell(i).to_le_bytes()).collect();
        if written.is_ok() {
            written = file.write(&bytes);
        }
    };
    block_on(session.run(&wanted.tokens, Want::These(&wanted.positions), None, &mut sink)).map_err(session_failure)?;
    written.and_then(|()| file.end()).map_err(failed)?;
    pending.commit().map_err(failed)?;
    super::print(|out| {
        writeln!(out, "{}: logits of {} positions, {width} values each", asked.out.display(), wanted.positions.len())
    })?;
    Ok(Exit::Ok)
}
