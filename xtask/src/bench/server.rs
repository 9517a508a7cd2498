//! From starting `assay serve` to its first page, on a new data folder and on one that exists.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use rustix::process::{Pid, Signal, kill_process};

use super::{Figure, median};

/// Longer than any start may take.
const PATIENCE: Duration = Duration::from_secs(30);

/// One first start and `rounds` later ones.
pub(super) fn measure(assay: &Path, folder: &Path, rounds: u32) -> Result<Figure> {
    let data = folder.join("data");
    let first = start(assay, &data)?;
    let later = (0..rounds).map(|_| start(assay, &data)).collect::<Result<Vec<_>>>()?;
    let worst = later.iter().copied().fold(0.0, f64::max);
    let note = format!(
        "median of {rounds} starts on a data folder that exists, worst {worst:.0} ms; first start of all {first:.0} ms"
    );
    Ok(Figure::limit("server cold start to first page", median(later), "ms", 150.0, note))
}

/// Milliseconds from starting the program to the whole sign-in page.
fn start(assay: &Path, data: &Path) -> Result<f64> {
    let begun = Instant::now();
    let child = Command::new(assay)
        .args(["serve", "--listen", "127.0.0.1:0", "--boot-listen", "127.0.0.1:0"])
        .args([
            "--agent-listen",
            "127.0.0.1:0",
            "--operator-password",
            "correct horse battery staple",
            "--data",
        ])
        .arg(data)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .with_context(|| format!("cannot start {}", assay.display()))?;
    let mut serve = Serve(child);
    let address = serve.ready()?;
    let page = page(&address)?;
    let took = begun.elapsed().as_secs_f64() * 1000.0;
    if !page.starts_with("HTTP/1.1 200") || !page.contains("</html>") {
        bail!("the first page is no sign-in page: {}", page.lines().next().unwrap_or_default());
    }
    serve.stop()?;
    Ok(took)
}

fn page(address: &str) -> Result<String> {
    let mut connection = TcpStream::connect(address).with_context(|| format!("cannot reach {address}"))?;
    connection.set_read_timeout(Some(PATIENCE))?;
    write!(connection, "GET /login HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n")?;
    let mut page = String::new();
    connection.read_to_string(&mut page).context("reading the first page")?;
    Ok(page)
}

/// A server that does not outlive its measurement.
struct Serve(Child);

impl Serve {
    /// Waits for the line that says where it listens.
    fn ready(&mut self) -> Result<String> {
        let said = self.0.stdout.take().context("its output is not piped")?;
        for line in BufReader::new(said).lines() {
            if let Some(url) = line?.strip_prefix("ready http://") {
                return Ok(url.trim().to_owned());
            }
        }
        bail!("assay serve ended before it was ready ({})", self.0.wait()?)
    }

    fn stop(mut self) -> Result<()> {
        let pid = i32::try_from(self.0.id()).ok().and_then(Pid::from_raw).context("no such process")?;
        kill_process(pid, Signal::TERM)?;
        self.0.wait()?;
        Ok(())
    }
}

impl Drop for Serve {
    fn drop(&mut self) {
        // Both fail when it has ended already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
