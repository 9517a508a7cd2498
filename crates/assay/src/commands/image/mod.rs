//! `assay image`: installer images, tested end to end.

mod case;
mod control_plane;
mod earlier;
mod grid;
mod history;
mod init;
mod known;
mod matrix;
mod power_cuts;
mod relay;
mod test;

use anyhow::Result;
use clap::Subcommand;

use crate::exit::Exit;

pub(crate) use relay::Relay;

#[derive(Subcommand)]
pub(crate) enum Image {
    /// Test an image: boot, install, reboot, and hold it to its profile
    Test(Box<test::Test>),
    /// Cut the power at every moment of an installation, and boot what it leaves
    PowerCuts(power_cuts::Cuts),
    /// Write a first profile by watching an image boot
    Init(init::Init),
    /// All images that a server has tested, each with its latest run
    List(history::List),
    /// One image: its runs, and what changed when the image did
    Show(history::Show),
    /// Run the stand-in control plane alone, to point machines at by hand
    ControlPlane(control_plane::ControlPlane),
}

impl Image {
    pub(crate) async fn run(self) -> Result<Exit> {
        match self {
            Self::Test(test) => test.run().await,
            Self::PowerCuts(cuts) => Box::pin(cuts.run()).await,
            Self::Init(init) => init.run().await,
            Self::List(list) => list.run().await,
            Self::Show(show) => show.run().await,
            Self::ControlPlane(alone) => alone.run().await,
        }
    }
}
