//! The demo's hands: registers both machines, vets them, follows them and keeps their reports, with the same
//! commands that an operator types.

use std::fs;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use assay_api::operator::{RunDetail, RunSummary};
use assay_model::host::spec::HostSpec;
use assay_process::Cmd;

use super::folder::Folder;
use super::stack::{dying_with_us, own_environment};
use super::verdicts::{BROKEN, GOOD, Verdicts};

/// How long a single command may take.
const COMMAND: Duration = Duration::from_mins(1);
/// How long a machine may take from power-on to its verdict, in software emulation on a busy machine.
const VERDICT: Duration = Duration::from_mins(20);
/// With fewer processors, two emulated machines at once take each other's time.
const PROCESSORS_FOR_BOTH: usize = 4;

/// Vets both machines to their verdicts.
pub(super) async fn both(folder: &Folder) -> Result<Verdicts> {
    println!(
        "\nTwo simulated machines. One is as it was ordered; the other lacks a memory module and has a foreign disk."
    );
    register(folder, GOOD).await?;
    register(folder, BROKEN).await?;
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    let (good, broken) = if processors >= PROCESSORS_FOR_BOTH {
        tokio::try_join!(vet(folder, GOOD), vet(folder, BROKEN))?
    } else {
        println!(
            "\nOne after the other: there are {processors} processors, and two machines at once would take each other's time."
        );
        (vet(folder, GOOD).await?, vet(folder, BROKEN).await?)
    };
    println!();
    for run in [&good, &broken] {
        keep_reports(folder, run).await?;
    }
    verify(folder, &good).await?;
    Ok(Verdicts { good, broken })
}

/// What to type next, for whoever wants to know more.
pub(super) fn look_around(folder: &Folder, verdicts: &Verdicts) -> String {
    let run = verdicts.broken.summary.number;
    format!(
        "Look around, in another terminal, as root:\n  \
         export ASSAY_DATA={data} PATH={program}:$PATH\n  \
         assay host list\n  \
         assay run show {run}\n  \
         assay run logs {run}\n\
         {BROKEN} is held until you decide:\n  \
         assay run retry {run}                 once the machine is repaired: run the failed stage again\n  \
         assay run waive {run} --why '…'       accept it and go on; the report says so for ever\n  \
         assay run abandon {run}               give the run up and release the machine",
        data = folder.data().display(),
        program = folder.program().parent().unwrap_or(&folder.program()).display(),
    )
}

async fn register(folder: &Folder, name: &str) -> Result<()> {
    let machines = folder.machines().display().to_string();
    let yaml = assay(folder, &["lab", "spec", name, "--machines", &machines]).await?;
    let spec = HostSpec::from_yaml(&yaml).context("assay lab spec printed something that is no spec")?;
    let path = folder.specs().join(format!("{name}.yaml"));
    fs::write(&path, &yaml).with_context(|| format!("cannot write {}", path.display()))?;

    let (path, power) = (path.display().to_string(), format!("lab:{name}"));
    let mut args = vec!["host", "add", name, "--spec", &path, "--power", &power];
    let macs: Vec<&str> = spec.nics.iter().filter_map(|nic| nic.mac.as_deref()).collect();
    if macs.is_empty() {
        bail!("{path} names no network card, so the machine cannot be known when it boots");
    }
    for mac in macs {
        args.extend(["--mac", mac]);
    }
    assay(folder, &args).await?;
    Ok(())
}

async fn vet(folder: &Folder, name: &str) -> Result<RunDetail> {
    let said = assay(folder, &["host", "vet", name, "--profile", "quick", "--json"]).await?;
    let asked: RunSummary =
        serde_json::from_str(&said).context("`assay host vet` printed what does not read")?;
    let number = asked.number.to_string();
    watch(folder, name, &number).await?;
    let said = quietly(folder, &["run", "show", &number, "--json"]).await?;
    serde_json::from_str(&said).context("`assay run show` printed what does not read")
}

/// Follows a run before the user's eyes. Its exit code is the verdict, which is looked at elsewhere.
async fn watch(folder: &Folder, name: &str, number: &str) -> Result<()> {
    let args = ["run", "watch", number];
    say(&args);
    let mut child = command(folder, &args).spawn().await.context("cannot start assay")?;
    let follow = async {
        while let Some(line) = child.next_line().await {
            println!("{name} | {}", line.text);
        }
    };
    if tokio::time::timeout(VERDICT, follow).await.is_err() {
        child.stop(Duration::from_secs(2)).await?;
        bail!("{name} has no verdict after {} minutes", VERDICT.as_secs() / 60);
    }
    let status = child.wait().await?;
    // 0 passed, 1 failed or held, 3 overridden; anything else is not about the machine.
    match status.code() {
        Some(0 | 1 | 3) => Ok(()),
        _ => bail!("following {name} failed ({status}); its words stand above"),
    }
}

async fn keep_reports(folder: &Folder, run: &RunDetail) -> Result<()> {
    let number = run.summary.number.to_string();
    for (format, name) in [("html", "report.html"), ("json", "report.json"), ("bundle", "bundle.tar")] {
        let path = folder.reports().join(format!("{}-{name}", run.summary.target)).display().to_string();
        assay(folder, &["report", &number, "--format", format, "--output", &path]).await?;
    }
    Ok(())
}

async fn verify(folder: &Folder, run: &RunDetail) -> Result<()> {
    let bundle = folder.reports().join(format!("{}-bundle.tar", run.summary.target)).display().to_string();
    let said = assay(folder, &["verify", &bundle]).await?;
    for line in said.lines() {
        println!("  {line}");
    }
    Ok(())
}

/// Runs the program to its end and returns what it printed.
async fn assay(folder: &Folder, args: &[&str]) -> Result<String> {
    say(args);
    quietly(folder, args).await
}

async fn quietly(folder: &Folder, args: &[&str]) -> Result<String> {
    let output = command(folder, args).timeout(COMMAND).run_ok().await?;
    Ok(output.stdout_text().into_owned())
}

fn command(folder: &Folder, args: &[&str]) -> Cmd {
    own_environment(dying_with_us(folder)).env("ASSAY_DATA", folder.data()).args(args.iter().copied())
}

fn say(args: &[&str]) {
    println!("$ assay {}", args.join(" "));
}
