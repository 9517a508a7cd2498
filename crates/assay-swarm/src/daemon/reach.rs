//! The way into a daemon's network, which has none out.
//!
//! A socket stays in the namespace that it was made in, whoever uses it. So a thread is made that enters the namespace, makes
//! the socket there and ends: a thread of the runtime must never be left in a foreign one.

use std::{
    fs::File,
    io,
    net::{Ipv4Addr, SocketAddr},
    os::fd::AsFd,
    path::Path,
    thread,
    time::Duration,
};

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::oneshot,
};

use super::{ADDRESS, Daemon, data_in};
use crate::SwarmError;

/// A way into the network of a daemon. Cheap to clone; of no use any more once the daemon is gone.
#[derive(Clone, Debug)]
pub struct Reach {
    /// None for the network that this process is in itself.
    namespace: Option<std::sync::Arc<File>>,
    address: Ipv4Addr,
}

impl Daemon {
    /// The way into its network.
    ///
    /// # Errors
    /// [`SwarmError::Folder`] when it is gone.
    pub fn reach(&self) -> Result<Reach, SwarmError> {
        let path = Path::new("/proc").join(self.init.pid().to_string()).join("ns/net");
        let namespace = File::open(&path).map_err(SwarmError::folder("opening", &path))?;
        let address = ADDRESS.parse().map_err(io::Error::other).map_err(SwarmError::folder("using", path))?;
        Ok(Reach { namespace: Some(namespace.into()), address })
    }

    /// The folder of its named volumes; the content of one is in `<name>/_data`.
    pub fn volumes(&self) -> std::path::PathBuf {
        data_in(&self.folder).join("volumes")
    }
}

impl Reach {
    /// For a daemon whose network is the one that this process is in. `address` is where it listens then.
    pub const fn here(address: Ipv4Addr) -> Self {
        Self { namespace: None, address }
    }

    /// Where [`Reach::listen`] listens.
    pub const fn address(&self) -> Ipv4Addr {
        self.address
    }

    /// Connects from inside of the network.
    ///
    /// # Errors
    /// Those of connecting; `TimedOut` after `limit`.
    pub async fn connect(&self, address: SocketAddr, limit: Duration) -> io::Result<TcpStream> {
        let stream = self.within(move || std::net::TcpStream::connect_timeout(&address, limit)).await?;
        stream.set_nonblocking(true)?;
        TcpStream::from_std(stream)
    }

    /// Listens at the daemon's own address, where containers and whatever runs inside of its network can come to; of one in this
    /// network at the address that it was made with.
    ///
    /// # Errors
    /// Those of listening.
    pub async fn listen(&self, port: u16) -> io::Result<TcpListener> {
        let address = self.address;
        let listener = self.within(move || std::net::TcpListener::bind((address, port))).await?;
        listener.set_nonblocking(true)?;
        TcpListener::from_std(listener)
    }

    async fn within<T, F>(&self, work: F) -> io::Result<T>
    where
        T: Send + 'static,
        F: FnOnce() -> io::Result<T> + Send + 'static,
    {
        let namespace = self.namespace.clone();
        let (sender, receiver) = oneshot::channel();
        thread::Builder::new().name("daemon-net".to_owned()).spawn(move || {
            let entered = namespace.map_or(Ok(()), |namespace| {
                move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network))
            });
            // The receiver is gone only if the caller was cancelled; then nobody wants the result.
            let _ = sender.send(entered.map_err(io::Error::from).and_then(|()| work()));
        })?;
        receiver
            .await
            .map_err(|_| io::Error::other("the thread in the daemon's network ended without a result"))?
    }
}
