//! Prints the inventory of the machine that it runs on: to look at what the probes see on new hardware.

use std::io::Write as _;

fn main() -> std::io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let (inventory, _) = runtime.block_on(assay_probes::inventory(&assay_probes::Machine::this()));
    let mut out = std::io::stdout().lock();
    serde_json::to_writer_pretty(&mut out, &inventory)?;
    writeln!(out)
}
