//! `assay recipe inside`: the program in a virtual machine that a stranger's recipe is tested in. The guest image starts it.

use std::path::PathBuf;

use anyhow::Result;
use clap::Args;

use crate::exit::Exit;

#[derive(Args)]
pub(crate) struct Inside {
    /// A folder on the machine's disk.
    folder: PathBuf,
}

impl Inside {
    pub(crate) async fn run(self) -> Result<Exit> {
        Box::pin(assay_runner::serve_inside(&self.folder)).await.map_err(anyhow::Error::msg)?;
        Ok(Exit::Ok)
    }
}
