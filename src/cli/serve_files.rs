//! `gptoss serve-files`: local checkpoints over HTTP, in ranges.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

use super::progress::Turns;
use super::{Failure, Outcome, print};
use crate::exit::Exit;
use crate::serve::files::{FileOptions, serve_files, url};

/// How long an interrupted server waits for answers under way.
const DRAIN: Duration = Duration::from_secs(2);

/// A directory, and where to serve it.
#[derive(Debug, Args)]
pub(super) struct ServeFilesArgs {
    /// The directory; links are followed as long as they end below it, hidden files are not served
    directory: PathBuf,
    /// Address and port to listen on; port 0 chooses one. Others than loopback are reachable from outside
    #[arg(long, value_name = "IP:PORT", default_value = "127.0.0.1:8090")]
    listen: SocketAddr,
    /// An origin, beside those of this machine, whose pages may read; * stands for all. May be repeated
    #[arg(long = "allow-origin", value_name = "ORIGIN")]
    origins: Vec<String>,
}

/// Runs the command.
pub(super) fn run(args: &ServeFilesArgs) -> Outcome {
    let directory = args.directory.display();
    if !args.directory.is_dir() {
        return Err(Failure::new(Exit::Input, format!("{directory}: expected a directory"), "gptoss serve-files DIR"));
    }
    let turns = Turns::begin();
    let failed = |e: std::io::Error| Failure::new(Exit::Usage, format!("{}: {e}", args.listen), "another --listen");
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().map_err(failed)?;
    runtime.block_on(async {
        let listener = tokio::net::TcpListener::bind(args.listen).await.map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        print(|out| writeln!(out, "{} serves the files of {directory}; Ctrl-C ends it", url(address)))?;
        let (told, mut tell) = tokio::sync::watch::channel(false);
        let watch = async move {
            while !turns.interrupted() {
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
            let _ = told.send(true);
            // Who is still being answered after this is left: a client of ours asks again for the rest.
            tokio::time::sleep(DRAIN).await;
        };
        let shutdown = async move {
            let _ = tell.wait_for(|over| *over).await;
        };
        let options = FileOptions { origins: args.origins.clone() };
        tokio::select! {
            served = serve_files(listener, &args.directory, options, shutdown) => served.map_err(failed),
            () = watch => Ok(()),
        }
    })?;
    // Reads of a slow disk are not waited for.
    runtime.shutdown_background();
    Ok(Exit::Ok)
}
