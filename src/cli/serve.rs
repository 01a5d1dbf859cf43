//! `gptoss serve`: the model over HTTP.

use std::net::IpAddr;
use std::time::Duration;

use clap::Args;

use super::model::{ModelArgs, engine_failure};
use super::progress::Turns;
use super::{Failure, Outcome, print};
use crate::exit::Exit;
use crate::generate::engine::{Engine, EngineOptions};
use crate::serve::{Ended, Limits, ServeOptions, serve};

/// Tokens of a sequence if nobody says otherwise: every sequence's caches are taken whole at the start.
const CONTEXT_DEFAULT: usize = 8192;

/// A model, where to serve it, and how much at once.
#[derive(Debug, Args)]
pub(super) struct ServeArgs {
    #[command(flatten)]
    model: ModelArgs,
    /// Address to listen on; others than loopback are reachable from outside: set --api-key
    #[arg(long, value_name = "IP", default_value = "127.0.0.1")]
    host: IpAddr,
    /// Port to listen on; 0 chooses one
    #[arg(long, value_name = "N", default_value_t = 8080)]
    port: u16,
    /// The model's name for clients
    #[arg(long, value_name = "NAME", default_value = "gpt-oss")]
    model_id: String,
    /// Sequences that run at once; each has caches for --context tokens (8192 by default)
    #[arg(long, value_name = "N", default_value_t = 4)]
    lanes: usize,
    /// Requests that wait; more are refused with 429
    #[arg(long, value_name = "N", default_value_t = 64)]
    queue: usize,
    /// Most tokens of an answer
    #[arg(long, value_name = "N", default_value_t = 4096)]
    max_tokens: usize,
    /// Longest time of a request, seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 600)]
    request_seconds: u64,
    /// Largest request body, bytes
    #[arg(long, value_name = "N", default_value_t = 8 << 20)]
    body_bytes: usize,
    /// Connections at once; more are told 503
    #[arg(long, value_name = "N", default_value_t = Limits::default().connections_max)]
    connections: usize,
    /// Longest time for a request's head, and for its body; an idle connection is closed after as long
    #[arg(long, value_name = "SECONDS", default_value_t = 30)]
    read_seconds: u64,
    /// Longest time in which a client takes nothing of its answer
    #[arg(long, value_name = "SECONDS", default_value_t = 30)]
    write_seconds: u64,
    /// How long answers under way may go on after Ctrl-C or SIGTERM; a second one ends the server at once
    #[arg(long, value_name = "SECONDS", default_value_t = 30)]
    grace_seconds: u64,
    /// A file with the bearer token that clients must present
    #[arg(long, value_name = "FILE")]
    api_key: Option<std::path::PathBuf>,
}

/// Runs the command.
pub(super) fn run(args: &ServeArgs) -> Outcome {
    let token = args.api_key.as_deref().map(super::text::read).transpose()?.map(|text| text.trim().to_string());
    if token.as_ref().is_some_and(String::is_empty) {
        return Err(Failure::new(Exit::Input, "--api-key: the file is empty", "a file with a token"));
    }
    let (model, context) = args.model.load_for_lanes(CONTEXT_DEFAULT, args.lanes)?;
    let options = EngineOptions { lanes: args.lanes, queue: args.queue, context, chunk: args.model.chunk };
    let engine = Engine::start(model, options).map_err(|error| {
        engine_failure(error, "gptoss serve --help", "--kv f16, fewer --lanes, or a smaller --context")
    })?;
    let options = ServeOptions {
        model_id: args.model_id.clone(),
        body_bytes_max: args.body_bytes,
        request_time_max: Duration::from_secs(args.request_seconds),
        max_tokens: args.max_tokens,
        token,
        limits: Limits {
            connections_max: args.connections,
            read_time_max: Duration::from_secs(args.read_seconds),
            write_time_max: Duration::from_secs(args.write_seconds),
            grace: Duration::from_secs(args.grace_seconds),
            ..Limits::default()
        },
    };
    let turns = Turns::begin();
    let failed =
        |e: std::io::Error| Failure::new(Exit::Usage, format!("{}:{}: {e}", args.host, args.port), "another --port");
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().map_err(failed)?;
    let ended = runtime.block_on(async {
        let listener = tokio::net::TcpListener::bind((args.host, args.port)).await.map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        print(|out| writeln!(out, "http://{address}/v1 serves {}; Ctrl-C ends it", args.model_id))?;
        let interrupted = async {
            while !turns.interrupted() {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        Ok(serve(listener, engine, options, interrupted).await)
    })?;
    match ended {
        Ended::Whole => Ok(Exit::Ok),
        Ended::Cut => {
            let next = "gptoss serve --grace-seconds N for longer answers";
            Err(Failure::new(Exit::Interrupted, "answers under way were cut off", next))
        }
    }
}
