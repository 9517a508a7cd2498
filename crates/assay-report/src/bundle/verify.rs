//! What `assay verify BUNDLE` finds out, without a server and without believing the bundle.
//!
//! Every file is bound by something that the bundle's author could not forge without a signing key,
//! and each check names exactly what does not fit. Checks go on after one has failed, so that an
//! operator sees all that was altered and not only the first of it.

use std::fmt;
use std::path::Path;

use assay_model::journal::{self, StoredEvent};
use assay_model::report::Report;
use assay_model::{Event, EventBody, RunId, RunResult, RunView, Sha256};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::read::Contents;
use super::write::{blobs_named, decode};
use super::{
    ADDENDUM, ARTIFACTS, FORMAT, JOURNAL, KEYS, MANIFEST, MANIFEST_TYPE, Manifest, REPORT_HTML, REPORT_JSON,
    RUN, ReadError, RunFile, canonical,
};
use crate::key::PublicKey;
use crate::{attest, envelope, words};

/// How one check came out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    /// It holds.
    Ok,
    /// Nothing contradicts it and nothing proves it: read the detail.
    Note,
    /// It does not hold.
    Bad,
}

/// One check.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct VerifyCheck {
    /// What was looked at.
    pub what: String,
    /// How it came out.
    pub outcome: Outcome,
    /// What was seen, naming what does not fit.
    pub detail: String,
}

/// All that was found out about a bundle.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Verification {
    /// Every check held, and the verdict is sealed. Whether the key is one to trust is `key_trusted`.
    pub ok: bool,
    /// The run's number, as its journal tells it.
    pub number: Option<i64>,
    /// What was tested, as the journal tells it. Chosen by an operator: escape it.
    pub target: Option<String>,
    /// The verdict in words, only when `ok`.
    pub verdict: Option<String>,
    /// The sealed result, only when `ok`.
    pub result: Option<RunResult>,
    /// The run is not sealed: an interim bundle, never `ok`.
    pub interim: bool,
    /// The key that signed the verdict, only when its signature holds.
    pub key_id: Option<String>,
    /// Whether that key was given from outside. If not, the signature proves only that nothing was
    /// changed since the holder of the key *inside* the bundle signed it, whoever that is.
    pub key_trusted: bool,
    /// Every check.
    pub checks: Vec<VerifyCheck>,
}

impl Verification {
    /// What does not hold.
    pub fn bad(&self) -> impl Iterator<Item = &VerifyCheck> {
        self.checks.iter().filter(|c| c.outcome == Outcome::Bad)
    }
}

/// A transcript for a terminal; text from the bundle is cleaned of control characters.
impl fmt::Display for Verification {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for check in &self.checks {
            let mark = match check.outcome {
                Outcome::Ok => "ok  ",
                Outcome::Note => "note",
                Outcome::Bad => "BAD ",
            };
            writeln!(f, "{mark}  {:<12}  {}", words::clean(&check.what), words::clean(&check.detail))?;
        }
        match (&self.verdict, self.interim) {
            (Some(verdict), _) => writeln!(f, "VERIFIED: {}", words::clean(verdict)),
            (None, true) => {
                writeln!(f, "NOT VERIFIED: the run is not sealed, so there is no verdict to verify")
            }
            (None, false) => writeln!(
                f,
                "NOT VERIFIED: {} of {} checks do not hold",
                self.bad().count(),
                self.checks.len()
            ),
        }
    }
}

/// Checks a bundle as [`verify_bundle`] does, and gives the run in it where it holds.
pub fn open_bundle(path: &Path, trusted: &[PublicKey]) -> Result<(Verification, Option<RunView>), ReadError> {
    let contents = Contents::read(path)?;
    let mut verifier = Verifier { contents, checks: Vec::new(), accepted: trusted.to_vec(), manifest: None };
    let (verification, view) = verifier.run(!trusted.is_empty());
    let view = view.filter(|_| verification.ok);
    Ok((verification, view))
}

/// Checks a bundle, a folder or a tar. With `trusted` keys, only they are accepted as signers;
/// without, the keys inside the bundle are, and the result says that this proves less.
pub fn verify_bundle(path: &Path, trusted: &[PublicKey]) -> Result<Verification, ReadError> {
    let contents = Contents::read(path)?;
    let mut verifier = Verifier { contents, checks: Vec::new(), accepted: trusted.to_vec(), manifest: None };
    Ok(verifier.run(!trusted.is_empty()).0)
}

/// Where one key of `key.pub.pem` ends and the next begins.
const END_OF_KEY: &str = "-----END PUBLIC KEY-----\n";

struct Verifier {
    contents: Contents,
    checks: Vec<VerifyCheck>,
    accepted: Vec<PublicKey>,
    manifest: Option<Manifest>,
}

impl Verifier {
    fn run(&mut self, key_trusted: bool) -> (Verification, Option<RunView>) {
        self.keys(key_trusted);
        self.manifest();
        self.files();
        let run = self.run_file();
        let journal = self.stored(JOURNAL);
        let (mut view, mut sealed_by, mut interim) = (None, None, false);
        if let (Some(run), Some(journal)) = (&run, &journal) {
            self.chain(run.run, journal);
            if let Some(events) = self.events(journal) {
                view = self.fold(run, &events);
                interim = !matches!(events.last().map(|e| &e.body), Some(EventBody::Sealed(_)));
                sealed_by = self.seal(run.run, &events);
                self.blobs(&events);
            }
            let head = journal.last().map_or(Sha256::ZERO, |e| e.hash);
            self.addendum(run.run, head);
        }
        if let Some(view) = &view {
            self.report(view);
        }
        let ok = sealed_by.is_some() && self.checks.iter().all(|c| c.outcome != Outcome::Bad);
        let told = view.as_ref().filter(|_| ok);
        let verification = Verification {
            ok,
            number: view.as_ref().map(|v| v.created.number),
            target: view.as_ref().map(|v| v.created.target.name.clone()),
            verdict: told.map(|v| {
                format!(
                    "run {} of {}: {}",
                    v.created.number,
                    v.created.target.name,
                    words::verdict(v).sentence()
                )
            }),
            result: told.and_then(|v| v.result),
            interim,
            key_id: sealed_by,
            key_trusted,
            checks: std::mem::take(&mut self.checks),
        };
        (verification, view)
    }

    /// Whose signatures count, and whether the key file is one.
    fn keys(&mut self, trusted: bool) {
        let Some(text) = self.text(KEYS) else { return };
        let inside: Result<Vec<_>, _> =
            text.split_inclusive(END_OF_KEY).map(|pem| PublicKey::from_pem(pem, KEYS)).collect();
        let inside = match inside {
            Ok(keys)
                if keys.iter().map(PublicKey::to_pem).collect::<String>() == text && !keys.is_empty() =>
            {
                keys
            }
            Ok(_) => return self.bad(KEYS, "its text is not as it was exported"),
            Err(e) => return self.bad(KEYS, e.to_string()),
        };
        let ids = |keys: &[PublicKey]| keys.iter().map(PublicKey::key_id).collect::<Vec<_>>().join(", ");
        if trusted {
            let ids = ids(&self.accepted);
            self.good("key", format!("only signatures by the key you gave are accepted: {ids}"));
        } else {
            let ids = ids(&inside);
            self.note(
                "key",
                format!(
                    "no trusted key was given, so the key inside the bundle is used ({ids}); this proves that nothing was \
                     altered since its holder signed, not who that is: compare the key id with one you got elsewhere"
                ),
            );
            self.accepted = inside;
        }
    }

    fn manifest(&mut self) {
        let Some(envelope) = self.json::<Value>(MANIFEST) else { return };
        let opened = match envelope::open(&envelope, MANIFEST_TYPE, &self.accepted) {
            Ok(opened) => opened,
            Err(e) => return self.bad(MANIFEST, e.to_string()),
        };
        match serde_json::from_slice::<Manifest>(&opened.payload) {
            Ok(manifest) if manifest.format == FORMAT => {
                self.good(
                    MANIFEST,
                    format!("signed by key {}, names {} files", opened.key_id, manifest.files.len()),
                );
                self.manifest = Some(manifest);
            }
            Ok(manifest) => self.bad(MANIFEST, newer(manifest.format)),
            Err(e) => self.bad(MANIFEST, format!("its payload is not a manifest: {e}")),
        }
    }

    fn files(&mut self) {
        for problem in std::mem::take(&mut self.contents.problems) {
            self.bad("files", problem);
        }
        let Some(manifest) = &self.manifest else { return };
        let mut wrong = Vec::new();
        for (name, digest) in &manifest.files {
            match self.contents.files.get(name) {
                Some(file) if file.digest == *digest => {}
                Some(file) => wrong.push((
                    name.clone(),
                    format!(
                        "{name} was altered after the export: its digest is {}, signed was {digest}",
                        file.digest
                    ),
                )),
                None => wrong.push((
                    name.clone(),
                    format!("{name} is missing: it was in the bundle when it was signed"),
                )),
            }
        }
        for name in self.contents.files.keys().filter(|n| *n != MANIFEST && !manifest.files.contains_key(*n))
        {
            wrong.push((
                name.clone(),
                format!("{name} was added after the export: the manifest does not name it"),
            ));
        }
        for required in [RUN, JOURNAL, ADDENDUM, REPORT_JSON, REPORT_HTML, KEYS] {
            if !manifest.files.contains_key(required) {
                wrong.push((MANIFEST.to_owned(), format!("the manifest does not name {required}")));
            }
        }
        if wrong.is_empty() {
            let n = manifest.files.len();
            self.good(
                "files",
                format!("all {n} files are as they were when the bundle was signed, report.html included"),
            );
        }
        for (name, detail) in wrong {
            self.bad(&name, detail);
        }
    }

    fn run_file(&mut self) -> Option<RunFile> {
        let run = self.json::<RunFile>(RUN)?;
        if run.format != FORMAT {
            self.bad(RUN, newer(run.format));
            return None;
        }
        let other = self.manifest.as_ref().filter(|m| (m.run, m.number) != (run.run, run.number));
        if let Some(detail) =
            other.map(|m| format!("it names run {}, the manifest is of run {}", run.number, m.number))
        {
            self.bad(RUN, detail);
        }
        Some(run)
    }

    fn stored(&mut self, name: &str) -> Option<Vec<StoredEvent>> {
        let text = self.text(name)?;
        let mut events = Vec::new();
        for (number, line) in (1..).zip(text.lines()) {
            match serde_json::from_str(line) {
                Ok(event) => events.push(event),
                Err(e) => {
                    self.bad(name, format!("event {number} does not read (line {number}): {e}"));
                    return None;
                }
            }
        }
        Some(events)
    }

    fn chain(&mut self, run: RunId, journal: &[StoredEvent]) {
        match journal::verify(run, Sha256::ZERO, journal) {
            Ok(head) => self.good("chain", format!("{} events, head {head}", journal.len())),
            Err(journal::BrokenChain::Altered { seq: 1, .. }) => self.bad(
                "chain",
                format!(
                    "event 1 does not belong to run {run}: it was altered, or the journal is another run's"
                ),
            ),
            Err(journal::BrokenChain::Altered { seq, kind }) => {
                self.bad(
                    "chain",
                    format!("event {seq} ({}) was altered: its bytes do not match its hash", plain(&kind)),
                );
            }
            Err(e) => self.bad("chain", e.to_string()),
        }
    }

    fn events(&mut self, journal: &[StoredEvent]) -> Option<Vec<Event>> {
        match decode(journal) {
            Ok(events) => Some(events),
            Err((seq, e)) => {
                self.bad(JOURNAL, format!("event {seq}: {e}"));
                None
            }
        }
    }

    fn fold(&mut self, run: &RunFile, events: &[Event]) -> Option<RunView> {
        let view = match RunView::fold(run.run, events) {
            Ok(Some(view)) => view,
            Ok(None) => {
                self.bad(JOURNAL, "the journal is empty");
                return None;
            }
            Err(e) => {
                // The fold says which rule was broken; finding the event is one more pass.
                let seq = first_illegal(run.run, events).unwrap_or_default();
                self.bad(JOURNAL, format!("event {seq} cannot have happened: {e}"));
                return None;
            }
        };
        if view.created.number != run.number {
            self.bad(
                RUN,
                format!("it names run {}, the journal is of run {}", run.number, view.created.number),
            );
        }
        Some(view)
    }

    /// The seal: the last event, over the event before it, signed, saying what the journal says.
    /// Returns the id of the key that signed it.
    fn seal(&mut self, run: RunId, events: &[Event]) -> Option<String> {
        let (last, before) = events.split_last()?;
        let EventBody::Sealed(seal) = &last.body else {
            let what = last.body.kind();
            if let Some(e) = events.iter().find(|e| matches!(e.body, EventBody::Sealed(_))) {
                self.bad(
                    "seal",
                    format!(
                        "event {} ({what}) stands after the seal (event {}): it was appended",
                        last.seq, e.seq
                    ),
                );
            } else {
                self.bad("seal", format!(
                    "the journal ends at event {} ({what}) without a seal: the run was not finished when it was exported, or the journal was cut",
                    last.seq
                ));
            }
            return None;
        };
        // That it does not fold was said already.
        let Ok(Some(view)) = RunView::fold(run, before) else { return None };
        let head = self.head_before_seal();
        let mut wrong = Vec::new();
        if Some(seal.head) != head {
            wrong.push(format!(
                "it names head {}, the event before it has {}",
                seal.head,
                head.unwrap_or(Sha256::ZERO)
            ));
        }
        if (seal.result, seal.overridden) != (view.result, view.overridden) {
            wrong.push(format!(
                "it says {}, the journal says {}",
                words::result(seal.result, seal.overridden),
                words::result(view.result, view.overridden)
            ));
        }
        let statement = match attest::verify_envelope(&seal.envelope, &self.accepted) {
            Ok(statement) => statement,
            Err(e) => {
                self.bad("seal", e.to_string());
                return None;
            }
        };
        let differing = attest::differences(&statement, &view, seal.head);
        if !differing.is_empty() {
            wrong.push(format!("the signed statement and the journal differ in {}", differing.join(", ")));
        }
        if !wrong.is_empty() {
            self.bad("seal", wrong.join("; "));
            return None;
        }
        let verdict = statement.pointer("/predicate/result").and_then(Value::as_str).unwrap_or_default();
        let signer = envelope::open(&seal.envelope, attest::PAYLOAD_TYPE, &self.accepted).ok()?.key_id;
        self.good("seal", format!("{verdict}, signed by key {signer} over head {}", seal.head));
        Some(signer)
    }

    fn head_before_seal(&self) -> Option<Sha256> {
        let text = std::str::from_utf8(&self.contents.files.get(JOURNAL)?.bytes).ok()?;
        let mut lines = text.lines().rev();
        let seal: StoredEvent = serde_json::from_str(lines.next()?).ok()?;
        Some(seal.prev_hash)
    }

    fn blobs(&mut self, events: &[Event]) {
        let named = blobs_named(events);
        let (mut whole, mut missing) = (0_usize, 0_usize);
        for (digest, what, seq) in &named {
            let name = format!("{ARTIFACTS}{digest}");
            let exported = self.manifest.as_ref().is_some_and(|m| m.files.contains_key(&name));
            match self.contents.files.get(&name).map(|f| f.digest) {
                Some(found) if found == *digest => whole += 1,
                Some(found) => self.bad(what, format!("{name} was altered: its bytes have digest {found}")),
                None if exported => {
                    self.bad(what, format!("{name} is missing: it was in the bundle when it was signed"));
                }
                None => {
                    missing += 1;
                    self.note(what, format!("{name} is missing: event {seq} names it, and it was not there any more when the bundle was exported (pruned)"));
                }
            }
        }
        let stored = events.iter().filter_map(|e| match &e.body {
            EventBody::ArtifactStored { name, digest, bytes, .. } => Some((name, digest, *bytes)),
            _ => None,
        });
        for (artifact, digest, bytes) in stored {
            let found = self.contents.files.get(&format!("{ARTIFACTS}{digest}"));
            if let Some(len) = found.filter(|f| f.digest == *digest && f.len != bytes).map(|f| f.len) {
                self.bad(
                    &format!("artifact {artifact}"),
                    format!("it has {len} bytes, the journal says {bytes}"),
                );
            }
        }
        let strays: Vec<_> = self
            .contents
            .files
            .keys()
            .filter(|n| {
                n.strip_prefix(ARTIFACTS)
                    .is_some_and(|d| !named.iter().any(|(digest, ..)| digest.to_string() == d))
            })
            .cloned()
            .collect();
        for stray in strays {
            self.bad("artifacts", format!("{stray} is named by no event of the journal"));
        }
        if whole + missing == named.len() {
            let n = named.len();
            self.good("artifacts", format!("{whole} of {n} files match their digests, {missing} missing"));
        }
    }

    fn report(&mut self, view: &RunView) {
        let Some(text) = self.text(REPORT_JSON) else { return };
        let told = Report::of(view);
        // Text first: a fraction may come back from JSON a last digit off.
        if text == crate::json(&told) {
            return self.good(REPORT_JSON, "says what the journal says");
        }
        match serde_json::from_str::<Report>(&text) {
            Ok(report) if report == told => self.good(REPORT_JSON, "says what the journal says"),
            Ok(report) => {
                let part = differing_part(&report, &told);
                self.bad(REPORT_JSON, format!("says something else than the journal, in `{part}`"));
            }
            Err(e) => self.bad(REPORT_JSON, format!("does not read: {e}")),
        }
    }

    fn addendum(&mut self, run: RunId, head: Sha256) {
        let Some(events) = self.stored(ADDENDUM) else { return };
        match journal::verify(run, head, &events) {
            Ok(_) if events.is_empty() => self.good("addendum", "empty"),
            Ok(head) => self.good("addendum", format!("{} events after the seal, head {head}", events.len())),
            Err(e) => self.bad("addendum", format!("{ADDENDUM}: {e}")),
        }
    }

    /// A file that must be there, as text.
    fn text(&mut self, name: &str) -> Option<String> {
        let Some(file) = self.contents.files.get(name) else {
            self.bad(name, format!("{name} is missing"));
            return None;
        };
        match String::from_utf8(file.bytes.clone()) {
            Ok(text) => Some(text),
            Err(e) => {
                self.bad(name, format!("{name} is not text: {e}"));
                None
            }
        }
    }

    /// A file that must be there, as JSON in its one spelling.
    fn json<T: DeserializeOwned + Serialize>(&mut self, name: &str) -> Option<T> {
        let text = self.text(name)?;
        match serde_json::from_str::<T>(&text) {
            Ok(value) if canonical(&value) == text.as_bytes() => Some(value),
            Ok(_) => {
                self.bad(name, "its text is not as it was exported");
                None
            }
            Err(e) => {
                self.bad(name, format!("does not read: {e}"));
                None
            }
        }
    }

    fn good(&mut self, what: &str, detail: impl Into<String>) {
        self.push(what, Outcome::Ok, detail);
    }

    fn note(&mut self, what: &str, detail: impl Into<String>) {
        self.push(what, Outcome::Note, detail);
    }

    fn bad(&mut self, what: &str, detail: impl Into<String>) {
        self.push(what, Outcome::Bad, detail);
    }

    fn push(&mut self, what: &str, outcome: Outcome, detail: impl Into<String>) {
        self.checks.push(VerifyCheck { what: what.to_owned(), outcome, detail: detail.into() });
    }
}

fn first_illegal(run: RunId, events: &[Event]) -> Option<i64> {
    let (first, rest) = events.split_first()?;
    let Ok(mut view) = RunView::begin(run, first) else { return Some(first.seq) };
    rest.iter().find(|e| view.apply(e).is_err()).map(|e| e.seq)
}

/// The first key of `report.json` under which two reports differ.
fn differing_part(a: &Report, b: &Report) -> String {
    let keys = |r: &Report| serde_json::to_value(r).unwrap_or_default();
    let (a, b) = (keys(a), keys(b));
    let differing = b.as_object().and_then(|o| o.iter().find(|(k, v)| a.get(k) != Some(v)));
    differing.map_or_else(|| "format".to_owned(), |(k, _)| k.clone())
}

/// A stored kind without its version.
fn plain(kind: &str) -> &str {
    kind.split('@').next().unwrap_or(kind)
}

fn newer(format: u32) -> String {
    format!("format {format} is unknown here, this program reads format {FORMAT}: use a newer assay")
}
