//! A TCP relay into a network namespace.
//!
//! The runner stands with one foot in the provisioning network: machines there can reach only it, and the server
//! listens elsewhere. The relay's listener lives inside the namespace, its connections leave outside. It forwards
//! bytes and knows nothing of what they mean.

use std::{
    io,
    net::{SocketAddr, TcpListener as StdListener},
    sync::Arc,
    time::Duration,
};

use socket2::{SockRef, TcpKeepalive};
use tokio::{
    io::copy_bidirectional_with_sizes,
    net::{TcpListener, TcpStream},
    sync::Semaphore,
    task::{AbortHandle, JoinHandle, JoinSet},
    time::{sleep, timeout},
};

use crate::netns::{place, within};

/// Per direction and connection, and all that an idle connection holds.
const BUFFER: usize = 16 * 1024;
/// Beyond this, connections wait to be accepted.
const MOST_CONNECTIONS: usize = 1024;
const CONNECT_LIMIT: Duration = Duration::from_secs(10);
/// Machines here lose power without a word; a dead peer is noticed after about two minutes.
const KEEPALIVE_IDLE: Duration = Duration::from_mins(1);
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(15);
/// After a failed accept (out of file descriptors, usually).
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Why a relay cannot listen.
#[derive(Debug, thiserror::Error)]
pub enum RelayError {
    /// Another program has the address.
    #[error("TCP {listen} in {place} is taken by another program: find it with `ss -tlpn 'sport = :{port}'` and stop it, or choose another port", port = listen.port())]
    PortTaken {
        /// The address asked for.
        listen: SocketAddr,
        /// The namespace.
        place: String,
    },
    /// The namespace or the address is missing, or not permitted.
    #[error("cannot listen on TCP {listen} in {place}: {source}")]
    Listen {
        /// The address asked for.
        listen: SocketAddr,
        /// The namespace.
        place: String,
        /// What the operating system said.
        source: io::Error,
    },
}

/// A running relay. Dropping it closes the listener and every connection.
#[derive(Debug)]
pub struct Relay {
    local: SocketAddr,
    task: JoinHandle<()>,
    abort: AbortHandle,
}

impl Relay {
    /// Listens on `listen` inside the namespace and connects to `to` outside, once per connection.
    ///
    /// # Errors
    /// [`RelayError`] when it cannot listen. That `to` cannot be reached shows per connection, in the log.
    pub async fn start(netns: Option<&str>, listen: SocketAddr, to: SocketAddr) -> Result<Self, RelayError> {
        let failed = |source: io::Error| {
            let place = place(netns);
            match source.kind() {
                io::ErrorKind::AddrInUse => RelayError::PortTaken { listen, place },
                _ => RelayError::Listen { listen, place, source },
            }
        };
        let bind = move || {
            let listener = StdListener::bind(listen)?;
            listener.set_nonblocking(true)?;
            Ok(listener)
        };
        let listener = within(netns, bind).await.and_then(TcpListener::from_std).map_err(failed)?;
        let local = listener.local_addr().map_err(failed)?;
        let task = tokio::spawn(serve(listener, to));
        let abort = task.abort_handle();
        Ok(Self { local, task, abort })
    }

    /// Where it listens (the port chosen by the kernel, if 0 was asked for).
    pub fn local_addr(&self) -> SocketAddr {
        self.local
    }

    /// Closes the listener and every connection, and returns when nothing is accepted any more.
    pub async fn stop(mut self) {
        self.task.abort();
        // It ends with "cancelled", which is what was asked for.
        let _ = (&mut self.task).await;
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.abort.abort();
    }
}

async fn serve(listener: TcpListener, to: SocketAddr) {
    let free = Arc::new(Semaphore::new(MOST_CONNECTIONS));
    let mut connections = JoinSet::new();
    loop {
        while connections.try_join_next().is_some() {}
        // The semaphore is never closed.
        let Ok(permit) = Arc::clone(&free).acquire_owned().await else {
            return;
        };
        match listener.accept().await {
            Ok((inside, peer)) => {
                connections.spawn(async move {
                    if let Err(error) = forward(inside, to).await {
                        tracing::debug!(%peer, %to, %error, "a relayed connection ended with an error");
                    }
                    drop(permit);
                });
            }
            Err(error) => {
                tracing::warn!(%error, "the relay could not accept a connection and tries again");
                sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// Each direction is closed on its own: a client that has sent everything still gets its answer.
async fn forward(mut inside: TcpStream, to: SocketAddr) -> io::Result<()> {
    let connecting = timeout(CONNECT_LIMIT, TcpStream::connect(to));
    let mut outside =
        connecting.await.map_err(|_| io::Error::from(io::ErrorKind::TimedOut)).flatten().inspect_err(
            |error| {
                tracing::warn!(%to, %error, "the relay cannot reach the server");
            },
        )?;
    let keepalive = TcpKeepalive::new().with_time(KEEPALIVE_IDLE).with_interval(KEEPALIVE_INTERVAL);
    for stream in [&inside, &outside] {
        stream.set_nodelay(true)?;
        SockRef::from(stream).set_tcp_keepalive(&keepalive)?;
    }
    copy_bidirectional_with_sizes(&mut inside, &mut outside, BUFFER, BUFFER).await?;
    Ok(())
}
