//! The connection between the browser and the server, with a plug that a test pulls and puts back.
//!
//! A lost connection is seen by the browser only at a socket; so the bytes really stop here.

use std::net::{Ipv4Addr, SocketAddr};

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};

use crate::browser::PATIENCE;

/// A port that leads to another one while the plug is in.
pub(crate) struct Cable {
    /// Where the browser connects.
    pub(crate) near: SocketAddr,
    plugged: watch::Sender<bool>,
    refused: watch::Receiver<u32>,
    carrying: JoinHandle<()>,
}

impl Cable {
    /// A cable to `far`, plugged in.
    pub(crate) async fn to(far: SocketAddr) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a free port");
        let near = listener.local_addr().expect("bound");
        let (plugged, plug) = watch::channel(true);
        let (refuse, refused) = watch::channel(0);
        let carrying = tokio::spawn(carry(listener, far, plug, refuse));
        Self { near, plugged, refused, carrying }
    }

    /// Breaks every connection; new ones break at once.
    pub(crate) fn pull(&self) {
        self.plugged.send_replace(false);
    }

    /// Returns when that many more connections were tried in vain.
    pub(crate) async fn refused(&mut self, more: u32) {
        let wanted = *self.refused.borrow_and_update() + more;
        let tried = self.refused.wait_for(|n| *n >= wanted);
        let tried = tokio::time::timeout(PATIENCE, tried).await.expect("the browser tries again by itself");
        drop(tried.expect("the cable is there"));
    }

    /// Connections work again.
    pub(crate) fn plug_in(&self) {
        self.plugged.send_replace(true);
    }
}

impl Drop for Cable {
    fn drop(&mut self) {
        self.carrying.abort();
    }
}

async fn carry(
    listener: TcpListener,
    far: SocketAddr,
    plug: watch::Receiver<bool>,
    refuse: watch::Sender<u32>,
) {
    // They end with the cable.
    let mut connections = JoinSet::new();
    while let Ok((near, _)) = listener.accept().await {
        if *plug.borrow() {
            connections.spawn(connection(near, far, plug.clone()));
        } else {
            drop(near);
            refuse.send_modify(|n| *n += 1);
        }
        while connections.try_join_next().is_some() {}
    }
}

async fn connection(mut near: TcpStream, far: SocketAddr, mut plug: watch::Receiver<bool>) {
    let Ok(mut far) = TcpStream::connect(far).await else { return };
    tokio::select! {
        // An end of either side is an end of the connection and nothing more.
        _ = tokio::io::copy_bidirectional(&mut near, &mut far) => {}
        _ = plug.wait_for(|plugged| !plugged) => {}
    }
}
