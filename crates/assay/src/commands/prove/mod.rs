//! `assay prove`: breaks machines on purpose and sees each check go red.
//!
//! A check that cannot fail is worse than none, so every check has an entry in the proof catalogue, and every entry
//! a control: the same machine without the fault, which must pass in the same invocation. `--mute` turns the
//! question round: with one check switched off, does the catalogue notice? The command brings its own control
//! plane, runner and lab ([`stand`]), and leaves nothing behind.

mod catalogue;
mod codes;
mod edge;
mod images;
mod page;
mod recipe_codes;
mod recipes;
mod stand;
mod verdict;

use std::collections::BTreeMap;
use std::io::Write;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail, ensure};
use assay_model::Pipeline;
use clap::{Args, ValueEnum};
use futures::StreamExt as _;

use self::catalogue::{Catalogue, Entry, MadeBy, Proof, Selection};
use self::stand::{Prover, Settings, Stand};
use self::verdict::{Line, unnoticed};
use crate::commands::told_to_stop;
use crate::commands::up::Stack;
use crate::exit::Exit;
use crate::{place, ui};

/// Which proofs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Which {
    /// Simulated machines, healthy and broken.
    Host,
    /// The reference installer, and its broken variants.
    Image,
    /// Recipes, good and broken.
    Recipe,
    /// Everything that there is.
    All,
}

#[derive(Args)]
pub(crate) struct Prove {
    /// Which proofs.
    #[arg(value_enum)]
    which: Which,
    /// Only this entry (and its control); may be given more than once.
    #[arg(long)]
    only: Vec<String>,
    /// Only the entries of the short run (`smoke = true`): about one fault a stage, for every change of the code.
    #[arg(long, conflicts_with = "only")]
    smoke: bool,
    /// Switch the check with this code off: exactly its entries must then fail, and the exit code says whether they did.
    #[arg(long, value_name = "CODE")]
    mute: Option<String>,
    /// Write one JSON object a line to this file; `-` is stdout, without the table.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Print the catalogue and run nothing.
    #[arg(long, conflicts_with_all = ["json", "mute"])]
    list: bool,
    /// Write the catalogue's table into this page, with what was seen now and, of entries that were not run, before.
    #[arg(long, value_name = "FILE", conflicts_with = "mute")]
    write_page: Option<PathBuf>,
    /// How many machines run at once. In software emulation they take each other's time.
    #[arg(long, default_value = "1")]
    jobs: NonZeroUsize,
    /// The folder with images: profiles, the reference installer, and the catalogue of its variants.
    #[arg(long, default_value = "examples/images")]
    images: PathBuf,
    /// Where packages of the reference installer are kept [default: its own].
    #[arg(long, value_name = "FOLDER")]
    image_cache: Option<PathBuf>,
    /// The folder with the canaries of the recipe pipeline.
    #[arg(long, default_value = "examples/recipes")]
    recipes: PathBuf,
    /// A folder with the canaries' images as archives [default: they are built, and kept in the cache]
    #[arg(long, value_name = "FOLDER")]
    app_images: Option<PathBuf>,
    /// The folder of the host pipeline's catalogue.
    #[arg(long, default_value = "lab/faults")]
    faults: PathBuf,
    /// The folder with the machine files.
    #[arg(long, default_value = "lab/machines")]
    machines: PathBuf,
    /// The folder with the live image [default: that of this machine's data folder, or else target/live-image].
    #[arg(long, env = "ASSAY_LIVE_IMAGE")]
    live_image: Option<PathBuf>,
    /// Keep every run's evidence bundle and console here.
    #[arg(long, value_name = "FOLDER")]
    evidence: Option<PathBuf>,
    /// The control plane's user; made when it is missing.
    #[arg(long, default_value = "assay")]
    user: String,
}

impl Prove {
    pub(crate) async fn run(self) -> Result<Exit> {
        match self.which {
            Which::Host => self.hosts().await,
            Which::Image => self.images().await,
            Which::Recipe => self.recipes().await,
            Which::All => {
                let mut worst = self.hosts().await?;
                for exit in [self.images().await?, self.recipes().await?] {
                    worst = if worst == Exit::Ok { exit } else { worst };
                }
                Ok(worst)
            }
        }
    }

    /// Proofs of the image pipeline.
    async fn images(&self) -> Result<Exit> {
        let entries = images::load(&self.images)?;
        let short: Vec<_> =
            entries.values().filter(|entry| entry.smoke).map(|entry| entry.name.clone()).collect();
        let only = if self.smoke { &short } else { &self.only };
        let chosen = match images::select(&entries, only) {
            Ok(chosen) => chosen,
            Err(problem) => {
                ui::error(&problem);
                return Ok(Exit::Usage);
            }
        };
        if let Some(code) = &self.mute {
            ensure!(
                chosen.iter().any(|entry| entry.expected.code.as_ref() == Some(code)),
                "none of the chosen entries expects `{code}`, so nothing could notice its loss"
            );
        }
        let asked = |name: &str| only.is_empty() || only.iter().any(|asked| asked == name);
        let proofs: Vec<&Proof> = chosen.iter().map(|entry| &entry.proof).collect();
        if self.list {
            ui::table(
                &LISTED,
                &proofs.iter().filter(|p| asked(&p.name)).map(|p| listed_row(p)).collect::<Vec<_>>(),
            );
            return Ok(Exit::Ok);
        }
        let places = images::Places {
            images: self.images.clone(),
            cache: self.image_cache.clone(),
            evidence: self.evidence.clone(),
        };
        let mut output = Output::open(self.json.as_deref(), proofs.iter().copied())?;
        output.begin();
        let muted: Vec<String> = self.mute.iter().cloned().collect();
        let told = |line: &Line| output.print(line, asked(&line.name));
        let lines = images::prove(&chosen, &places, self.jobs.get(), &muted, told).await?;
        if !output.to_stdout() {
            ui::line("");
            ui::table(&page::HEADS, &page::matrix(&lines));
        }
        if let Some(page) = &self.write_page {
            page::write(
                page,
                Pipeline::Image,
                &entries.values().map(|entry| &entry.proof).collect::<Vec<_>>(),
                &lines,
            )?;
        }
        Ok(self.judge(&lines))
    }

    /// Proofs of the recipe pipeline.
    async fn recipes(&self) -> Result<Exit> {
        let entries = recipes::load(&self.recipes)?;
        let all: Vec<&Proof> = entries.values().map(|entry| &entry.proof).collect();
        let short: Vec<_> = all.iter().filter(|entry| entry.smoke).map(|entry| entry.name.clone()).collect();
        ensure!(!self.smoke || !short.is_empty(), "no entry has smoke = true, so there is no short run");
        let only = if self.smoke { &short } else { &self.only };
        let groups = match recipes::select(&entries, only) {
            Ok(groups) => groups,
            Err(problem) => {
                ui::error(&problem);
                return Ok(Exit::Usage);
            }
        };
        let proofs: Vec<&Proof> = groups.iter().flatten().map(|entry| &entry.proof).collect();
        if let Some(code) = &self.mute {
            ensure!(
                proofs.iter().any(|proof| proof.expected.code.as_ref() == Some(code)),
                "none of the chosen entries expects `{code}`, so nothing could notice its loss"
            );
        }
        let asked = |name: &str| only.is_empty() || only.iter().any(|asked| asked == name);
        if let (Some(page), true) = (&self.write_page, self.list) {
            page::write(page, Pipeline::Recipe, &all, &[])?;
        }
        if self.list {
            let rows: Vec<_> = proofs.iter().filter(|p| asked(&p.name)).map(|p| listed_row(p)).collect();
            ui::table(&LISTED, &rows);
            return Ok(Exit::Ok);
        }
        let places = recipes::Places {
            recipes: self.recipes.clone(),
            images: self.app_images.clone(),
            evidence: self.evidence.clone(),
        };
        let mut output = Output::open(self.json.as_deref(), proofs.iter().copied())?;
        output.begin();
        let muted: Vec<String> = self.mute.iter().cloned().collect();
        let told = |line: &Line| output.print(line, asked(&line.name));
        let lines = recipes::prove(&groups, &places, self.jobs.get(), &muted, told).await?;
        if !output.to_stdout() {
            ui::line("");
            ui::table(&page::HEADS, &page::matrix(&lines));
        }
        if let Some(page) = &self.write_page {
            page::write(page, Pipeline::Recipe, &all, &lines)?;
        }
        Ok(self.judge(&lines))
    }

    /// Proofs of the host pipeline.
    async fn hosts(&self) -> Result<Exit> {
        let catalogue = Catalogue::load(&self.faults)?;
        let all: Vec<&Proof> = catalogue.entries().map(|entry| &entry.proof).collect();
        let selection = match self.select(&catalogue) {
            Ok(selection) => selection,
            Err(problem) => {
                ui::error(&problem);
                return Ok(Exit::Usage);
            }
        };
        if let (Some(page), true) = (&self.write_page, self.list) {
            page::write(page, Pipeline::Host, &all, &[])?;
        }
        if self.list {
            ui::table(&LISTED, &listed(&selection));
            return Ok(Exit::Ok);
        }
        if !rustix::process::geteuid().is_root() {
            bail!(
                "proofs need root: the runner makes a network namespace and taps for the machines; use sudo"
            );
        }
        let mut output = Output::open(self.json.as_deref(), selection.machines().map(|entry| &entry.proof))?;
        let stand = Stand::new(Settings {
            machines: absolute(&self.machines)?,
            live_image: absolute(&live_image(self.live_image.clone()))?,
            edge: selection.machines().any(|entry| entry.made_by == MadeBy::Edge),
            user: self.user.clone(),
            evidence: self.evidence.clone(),
        })?;
        let mut stack = None;
        let outcome = self.prove(&stand, &mut stack, &selection, &mut output).await;
        stand.clear(stack).await;
        let lines = outcome?;
        if !output.to_stdout() {
            ui::line("");
            ui::table(&page::HEADS, &page::matrix(&lines));
        }
        if let Some(page) = &self.write_page {
            page::write(page, Pipeline::Host, &all, &lines)?;
        }
        Ok(self.judge(&lines))
    }

    fn select<'a>(&self, catalogue: &'a Catalogue) -> Result<Selection<'a>> {
        let short = if self.smoke { catalogue.smoke() } else { Vec::new() };
        ensure!(!self.smoke || !short.is_empty(), "no entry has smoke = true, so there is no short run");
        let selection = catalogue.select(if self.smoke { &short } else { &self.only })?;
        if let Some(code) = &self.mute {
            catalogue.check_muted(code)?;
            selection.check_muted(code)?;
        }
        Ok(selection)
    }

    /// Runs everything, or ends early with an error: told to stop, or a daemon died.
    async fn prove(
        &self,
        stand: &Stand,
        stack: &mut Option<Stack>,
        selection: &Selection<'_>,
        output: &mut Output,
    ) -> Result<Vec<Line>> {
        let stop = told_to_stop();
        tokio::pin!(stop);
        ui::say(&format!("starting a control plane, a runner and a lab for {} machines", selection.len()));
        let started = tokio::select! {
            started = stand.start() => started.inspect_err(|_| ui::say(&stand.last_words()))?,
            () = &mut stop => bail!("stopped before anything was proven"),
        };
        let stack = stack.insert(started);
        output.begin();
        let prover = stand.prover(self.mute.iter().cloned().collect())?;
        tokio::select! {
            lines = run_all(&prover, selection, self.jobs.get(), output) => lines,
            () = &mut stop => bail!("stopped; what was not printed was not proven"),
            who = stack.ended() => {
                ui::say(&stand.last_words());
                bail!("the {who} ended by itself; its last words stand above");
            }
        }
    }

    /// The last sentence and the exit code.
    fn judge(&self, lines: &[Line]) -> Exit {
        let Some(code) = &self.mute else {
            let ok = lines.iter().filter(|line| line.ok).count();
            ui::say(&format!("{ok} of {} came out as expected", lines.len()));
            return if ok == lines.len() { Exit::Ok } else { Exit::Fail };
        };
        let problems = unnoticed(lines, code);
        for problem in &problems {
            ui::say(problem);
        }
        if problems.is_empty() {
            ui::say(&format!(
                "the catalogue notices the loss of {code}: exactly its entries failed without it"
            ));
            return Exit::Ok;
        }
        ui::say(&format!("the catalogue does NOT show that the loss of {code} is noticed; see above"));
        Exit::Fail
    }
}

/// The folder of the live image: the one named, that of the data folder, or that of a working copy.
pub(crate) fn live_image(named: Option<PathBuf>) -> PathBuf {
    let installed = place::default_data().join("live-image");
    let built = PathBuf::from("target/live-image");
    let there = |folder: &Path| folder.join("manifest.json").exists();
    named.unwrap_or_else(|| if !there(&installed) && there(&built) { built } else { installed })
}

/// Healthy machines first: they are the controls of the others.
async fn run_all(
    prover: &Prover<'_>,
    selection: &Selection<'_>,
    jobs: usize,
    output: &mut Output,
) -> Result<Vec<Line>> {
    let mut lines = BTreeMap::new();
    for group in [&selection.healthy, &selection.others] {
        let mut running = futures::stream::iter(group)
            .map(async |entry: &&Entry| (*entry, prover.prove(entry, &selection.only(entry)).await))
            .buffer_unordered(jobs);
        while let Some((entry, (seen, seconds))) = running.next().await {
            let control = entry.control.as_ref().and_then(|control| lines.get(control));
            let line = Line::of(entry, seen, seconds, control);
            output.print(&line, selection.asked_for(entry))?;
            lines.insert(entry.name.clone(), line);
        }
    }
    Ok(lines.into_values().collect())
}

fn listed(selection: &Selection<'_>) -> Vec<Vec<String>> {
    let asked = selection.healthy.iter().chain(&selection.others).filter(|entry| selection.asked_for(entry));
    asked.map(|entry| listed_row(entry)).collect()
}

/// What stands over a list of entries.
const LISTED: [&str; 5] = ["ENTRY", "KIND", "EXPECTED", "CONTROL", "WHAT IT IS"];

fn listed_row(proof: &Proof) -> Vec<String> {
    vec![
        proof.name.clone(),
        format!("{:?}", proof.kind).to_lowercase(),
        proof.expected.words(),
        proof.control.clone().unwrap_or_default(),
        proof.description.clone(),
    ]
}

fn absolute(path: &Path) -> Result<PathBuf> {
    std::path::absolute(path).with_context(|| path.display().to_string())
}

/// Rows as they come, and JSON lines beside them.
struct Output {
    json: Option<Box<dyn Write + Send>>,
    table: bool,
    widths: [usize; 3],
}

impl Output {
    fn open<'a>(json: Option<&Path>, proofs: impl Iterator<Item = &'a Proof>) -> Result<Self> {
        let to_stdout = json.is_some_and(|path| path.as_os_str() == "-");
        let json: Option<Box<dyn Write + Send>> = match json {
            None => None,
            Some(_) if to_stdout => Some(Box::new(std::io::stdout())),
            Some(path) => {
                Some(Box::new(std::fs::File::create(path).with_context(|| path.display().to_string())?))
            }
        };
        let mut widths = [4, 8, 20];
        for entry in proofs {
            widths[0] = widths[0].max(entry.name.len());
            widths[1] = widths[1].max(entry.expected.words().len());
        }
        widths[2] = widths[2].max(widths[1]);
        Ok(Self { json, table: !to_stdout, widths })
    }

    fn to_stdout(&self) -> bool {
        !self.table
    }

    fn begin(&self) {
        self.row(["NAME", "EXPECTED", "SEEN"], "OK", "SECONDS");
    }

    /// A control that was not asked for has its row, for the reader, and no JSON line.
    fn print(&mut self, line: &Line, asked_for: bool) -> Result<()> {
        let ok = match (line.ok, asked_for) {
            (true, true) => "ok",
            (true, false) => "ok (control)",
            (false, true) => "NO",
            (false, false) => "NO (control)",
        };
        self.row(
            [&line.name, &line.expected.words(), &line.seen.words()],
            ok,
            &format!("{:.0}", line.seconds),
        );
        for problem in &line.problems {
            ui::say(&format!("  {}: {problem}", line.name));
        }
        if let Some(json) = self.json.as_mut().filter(|_| asked_for) {
            let text = serde_json::to_string(line)?;
            writeln!(json, "{text}").and_then(|()| json.flush()).context("writing the JSON lines")?;
        }
        Ok(())
    }

    fn row(&self, cells: [&str; 3], ok: &str, seconds: &str) {
        if self.table {
            let [a, b, c] = self.widths;
            ui::line(&format!("{:<a$}  {:<b$}  {:<c$}  {ok:<12}  {seconds}", cells[0], cells[1], cells[2]));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::prove::verdict::Seen;

    fn faults() -> Catalogue {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../lab/faults");
        Catalogue::load(&folder).expect("the catalogue is good")
    }

    #[test]
    fn only_what_was_asked_for_becomes_a_json_line() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("out.jsonl");
        let catalogue = faults();
        let selection = catalogue.select(&["failing-nvme".into()]).expect("there is one");
        let mut output =
            Output::open(Some(&path), selection.machines().map(|entry| &entry.proof)).expect("opened");
        for entry in selection.healthy.iter().chain(&selection.others) {
            let line = Line::of(entry, Seen::error("the machine is on fire".into()), 1.5, None);
            output.print(&line, selection.asked_for(entry)).expect("printed");
        }
        let text = std::fs::read_to_string(&path).expect("read");
        let lines: Vec<serde_json::Value> =
            text.lines().map(|line| serde_json::from_str(line).expect("an object a line")).collect();
        assert_eq!(lines.len(), 1);
        assert_eq!((&lines[0]["name"], &lines[0]["ok"]), (&"failing-nvme".into(), &false.into()));
        assert_eq!(lines[0]["seen"]["message"], "the machine is on fire");
    }

    #[test]
    fn the_list_says_what_must_be_seen() {
        let catalogue = faults();
        let selection = catalogue.select(&["swapped-disk".into()]).expect("there is one");
        let rows = listed(&selection);
        assert_eq!(rows.len(), 1, "a control that was not asked for is not listed");
        assert_eq!(
            rows[0][..4],
            ["swapped-disk", "fault", "fail at SpecValidate: DiskMissing", "healthy-bios"]
        );
    }

    #[test]
    fn a_folder_that_was_named_is_taken_as_it_is() {
        assert_eq!(live_image(Some("/no/such/folder".into())), Path::new("/no/such/folder"));
    }
}
