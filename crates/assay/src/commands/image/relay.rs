//! `assay relay SOCKET`: what QEMU starts for each connection that a machine makes to its control plane.

use std::path::PathBuf;

use anyhow::{Context as _, Result};
use clap::Args;
use tokio::io::{AsyncWriteExt as _, copy, stdin, stdout};
use tokio::net::UnixStream;

use crate::exit::Exit;

#[derive(Args)]
pub(crate) struct Relay {
    /// The socket.
    socket: PathBuf,
}

impl Relay {
    pub(crate) async fn run(self) -> Result<Exit> {
        let stream = UnixStream::connect(&self.socket);
        let stream = stream.await.with_context(|| self.socket.display().to_string())?;
        let (mut from, mut to) = stream.into_split();
        let out = async {
            copy(&mut stdin(), &mut to).await?;
            to.shutdown().await
        };
        let back = async {
            let mut stdout = stdout();
            copy(&mut from, &mut stdout).await?;
            stdout.flush().await
        };
        // When the control plane has hung up, what the machine still says is of no use.
        tokio::select! {
            done = async { tokio::try_join!(out, std::future::pending::<std::io::Result<()>>()).map(drop) } => done?,
            done = back => done?,
        }
        // Reading from stdin may still block a thread: the process ends all the same.
        std::process::exit(0)
    }
}
