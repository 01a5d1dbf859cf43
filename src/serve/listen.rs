//! Connections: how many, how slow, and how they end.
//!
//! * Beyond `connections_max` a few more are let in, to be told 503; beyond those, clients wait in the system's backlog.
//! * Told to end, the server closes its port and every idle connection; answers under way have the grace period, then the
//!   engine ends and each is told so, as its last event.

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use super::Shared;
use super::patient::Patient;

/// Connections beyond the limit that are told so at once.
const REFUSED_MAX: usize = 64;
/// How long last words may take.
const LAST_WORDS: Duration = Duration::from_secs(2);
/// Pause after the system has no more descriptors.
const EXHAUSTED: Duration = Duration::from_millis(200);

/// How a server ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// Every answer was given whole.
    Whole,
    /// Answers were cut off after the grace period.
    Cut,
}

/// Accepts until `shutdown`, then ends in order.
pub(super) async fn listen(
    listener: TcpListener,
    app: Shared,
    routes: Router,
    refusal: Router,
    shutdown: impl Future<Output = ()> + Send,
) -> Ended {
    let limits = app.options.limits;
    let places = Arc::new(Semaphore::new(limits.connections_max + REFUSED_MAX));
    let (tell, told) = watch::channel(false);
    let mut running = JoinSet::new();
    let mut shutdown = pin!(shutdown);
    loop {
        let (stream, place) = tokio::select! {
            () = &mut shutdown => break,
            Some(_) = running.join_next() => continue,
            accepted = accept(&listener, &places) => accepted,
        };
        let is_refused = places.available_permits() < REFUSED_MAX;
        if is_refused {
            app.traffic.refused.fetch_add(1, Ordering::Relaxed);
        }
        let router = if is_refused { refusal.clone() } else { routes.clone() };
        running.spawn(connection(stream, place, app.clone(), router, told.clone()));
    }
    drop(listener);
    tell.send_replace(true);
    if all_end(&mut running, limits.grace).await {
        return Ended::Whole;
    }
    app.engine.end("the server is shutting down");
    all_end(&mut running, LAST_WORDS).await;
    running.shutdown().await;
    Ended::Cut
}

/// The next connection, and its place among them.
async fn accept(listener: &TcpListener, places: &Arc<Semaphore>) -> (TcpStream, OwnedSemaphorePermit) {
    // The semaphore is never closed.
    let place = places.clone().acquire_owned().await.expect("the semaphore is open");
    loop {
        match listener.accept().await {
            Ok((stream, _)) => return (stream, place),
            Err(error) => {
                tracing::warn!("a connection was not accepted: {error}");
                sleep(EXHAUSTED).await;
            }
        }
    }
}

/// Whether every connection ended in time.
async fn all_end(running: &mut JoinSet<()>, time: Duration) -> bool {
    timeout(time, async { while running.join_next().await.is_some() {} }).await.is_ok()
}

/// Serves one connection to its end.
async fn connection(
    stream: TcpStream,
    _place: OwnedSemaphorePermit,
    app: Shared,
    router: Router,
    mut told: watch::Receiver<bool>,
) {
    let (limits, traffic) = (app.options.limits, &app.traffic);
    let _open = traffic.open();
    // Events are small and wanted at once; a socket that refuses still works.
    let _ = stream.set_nodelay(true);
    let io = TokioIo::new(Patient::new(stream, limits.write_time_max, traffic.given_up.clone()));
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(limits.read_time_max).max_buf_size(limits.head_bytes_max);
    let mut connection = pin!(http.serve_connection(io, TowerToHyperService::new(router)));
    let over = async { told.wait_for(|told| *told).await.is_ok() };
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        _ = over => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!("a connection ended: {error}");
    }
}
