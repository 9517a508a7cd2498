//! How fast a pull request is told that its run is queued, and what listening to five hundred repositories asks of a forge: one
//! real `assay serve` over forge doubles on this machine.
//!
//! Run by `cargo xtask bench --only forges`, which knows the goals. Forge, control plane and `git` share the processors. A
//! time counts from the moment in which somebody says something to the moment in which our comment says `queued`; in between
//! are the question (or the delivery), whether its author may ask, the fetched commits, the run, and the comment.
//!
//! Prints one JSON object on stdout.

mod listening;
mod telling;

use std::error::Error;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use assay_model::{Clock as _, Micros};
use assay_testkit::forge::Dialect;
use assay_testkit::{ForgeDouble, ServerProcess, SimClock, free_ports};
use serde_json::json;

type Result<T> = std::result::Result<T, Box<dyn Error + Send + Sync>>;

/// How often a forge's clock is set: forges keep whole seconds.
const CLOCK: std::time::Duration = std::time::Duration::from_millis(200);

#[tokio::main]
async fn main() -> Result<()> {
    // Harmless when someone in this process has chosen a provider already.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let mut args = std::env::args_os().skip(1);
    let usage = "say which assay, in which folder, how many rounds, and how many seconds to listen";
    let program = PathBuf::from(args.next().ok_or(usage)?);
    let folder = PathBuf::from(args.next().ok_or(usage)?);
    let mut number = || args.next().and_then(|n| n.into_string().ok()?.parse::<u32>().ok()).ok_or(usage);
    let (rounds, seconds) = (number()?, number()?);
    let polled = telling::polled(&program, &folder.join("polled"), rounds).await?;
    let delivered = telling::delivered(&program, &folder.join("delivered"), rounds).await?;
    let listening = listening::measure(&program, &folder.join("listening"), seconds).await?;
    println!("{}", json!({ "polled": polled, "delivered": delivered, "listening": listening }));
    Ok(())
}

/// A forge whose clock goes with the machine's.
async fn forge(dialect: Dialect) -> ForgeDouble {
    let clock = SimClock::at(now());
    let forge = ForgeDouble::start_with(dialect, clock.clone()).await;
    tokio::spawn(async move {
        loop {
            tokio::time::sleep(CLOCK).await;
            clock.advance(Micros(now().since(clock.now()).0.max(0)));
        }
    });
    forge.add_member("apps", ForgeDouble::BOT, false);
    forge.add_member("apps", "alice", false);
    forge
}

fn now() -> Micros {
    assay_engine::clock::SystemClock::default().now()
}

/// A control plane that listens to forges: name, kind, address, repositories, and what else stands in its settings.
struct Listener<'a> {
    name: &'a str,
    kind: &'a str,
    forge: &'a ForgeDouble,
    repositories: &'a [String],
    more: &'a str,
}

async fn serve(program: &Path, data: &Path, listeners: &[Listener<'_>]) -> Result<ServerProcess> {
    std::fs::create_dir_all(data)?;
    let ports = free_ports();
    let mut settings = format!("base_url = \"http://127.0.0.1:{}\"\n", ports.operators);
    for Listener { name, kind, forge, repositories, more } in listeners {
        write!(
            settings,
            "[[forge]]\nname = \"{name}\"\nkind = \"{kind}\"\naddress = \"{}\"\ntoken_file = \"token\"\n\
             repositories = {repositories:?}\nauthors = {{ members = true }}\n{more}\n",
            forge.url()
        )?;
    }
    std::fs::write(data.join("forges.toml"), settings)?;
    std::fs::write(data.join("token"), ForgeDouble::TOKEN)?;
    std::fs::write(data.join("hook"), "0123456789abcdef0123456789abcdef")?;
    let mut server = ServerProcess::new(program, data, ports)
        .args(["--operator-password", "correct horse battery staple"]);
    server.start(&[]).await;
    Ok(server)
}

/// The middle one and the largest; not numbers when there are none.
fn spread(mut values: Vec<f64>) -> (f64, f64) {
    values.sort_by(f64::total_cmp);
    let at = |place: usize| values.get(place).copied().unwrap_or(f64::NAN);
    (at(values.len() / 2), at(values.len().saturating_sub(1)))
}
