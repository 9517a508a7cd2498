//! What a push brought, read back from the repository.

use std::collections::HashMap;

use assay_model::Micros;

use super::{
    Call, Change, Commit, NONE, Outcome, Person, Push, PushKind, Repository, Served, Sizes, done, lines_of,
    odd, pktline,
};
use crate::{StandInError, Who, auth::Scrub};

/// How much of a push's body may be commands; one takes about 110 bytes.
const MOST_COMMANDS_BYTES: u64 = 64 * 1024;
/// The refs that one push may change.
const MOST_COMMANDS: usize = 100;
/// How much of the answer to a push is read for its reasons.
const MOST_REPORT: u64 = 1024 * 1024;
/// How much of a message or name is kept.
const MOST_TEXT: usize = 16 * 1024;

/// A push that was carried out, as far as it was allowed to.
#[derive(Debug)]
pub(crate) struct Pushed {
    /// What the client is told; an error does not mean that nothing was applied.
    pub(crate) served: Result<Served, StandInError>,
    pub(crate) pushes: Vec<Push>,
}

/// Whose push it is, and how it is written down.
#[derive(Debug)]
pub(crate) struct About<'a> {
    pub(crate) at: Micros,
    pub(crate) request: u64,
    pub(crate) by: &'a Who,
    pub(crate) scrub: Scrub,
}

impl Repository {
    /// Lets a client push. `None` where its body does not begin as a push does, or changes too many refs.
    ///
    /// The caller holds [`Repository::change`].
    pub(crate) async fn push(&self, call: &Call, about: &About<'_>) -> Result<Option<Pushed>, StandInError> {
        let Some(asked) = self.commands(call)? else {
            return Ok(None);
        };
        let before = self.refs().await?;
        let mut served = self.serve(call).await;
        // Whatever became of the process, the repository knows what was applied.
        let after = self.refs().await?;
        let reasons = match &mut served {
            Ok(served) => pktline::refusals(&report(served).await?, asked.side_band),
            Err(_) => HashMap::new(),
        };

        let mut pushes = Vec::new();
        for command in asked.commands {
            let now = after.get(&command.reference).map_or(NONE, String::as_str);
            let was = before.get(&command.reference).map_or(NONE, String::as_str);
            let applied = now == command.new && was != now;
            let refused = reasons.get(&command.reference).cloned();
            let outcome = match refused {
                None if applied => Outcome::Applied,
                None if now == command.new => Outcome::Refused("nothing to do".into()),
                None => Outcome::Refused("the push came to no end".into()),
                Some(reason) => Outcome::Refused(reason),
            };
            let kind = match (command.old.as_str(), command.new.as_str()) {
                (_, NONE) => PushKind::Delete,
                (NONE, _) => PushKind::Create,
                _ => PushKind::Update,
            };
            let mut scrub = about.scrub.clone();
            let (commits, left_out) = match outcome {
                Outcome::Applied if kind != PushKind::Delete => {
                    let known = before.values().map(String::as_str);
                    self.new_commits(&command.new, known, &mut scrub).await?
                }
                _ => (Vec::new(), 0),
            };
            pushes.push(Push {
                at: about.at,
                request: about.request,
                reference: scrub.short(&command.reference, MOST_TEXT),
                old: command.old,
                new: command.new,
                kind,
                outcome,
                commits,
                commits_left_out: left_out,
                by: about.by.clone(),
                leaks: scrub.leaks(),
            });
        }
        Ok(Some(Pushed { served, pushes }))
    }

    /// Reads the beginning of a push's body.
    fn commands(&self, call: &Call) -> Result<Option<pktline::Commands>, StandInError> {
        use std::io::Read as _;
        let Some(body) = &call.body else {
            return Ok(None);
        };
        let failed = |source| StandInError::Folder { folder: self.folder.clone(), source };
        let mut head = Vec::new();
        let file = body.reopen().map_err(failed)?;
        file.take(MOST_COMMANDS_BYTES).read_to_end(&mut head).map_err(failed)?;
        Ok(pktline::commands(&head).filter(|asked| asked.commands.len() <= MOST_COMMANDS))
    }

    /// The commits that `new` has and `known` have not, oldest first, and how many older ones are left out.
    async fn new_commits(
        &self,
        new: &str,
        known: impl Iterator<Item = &str>,
        scrub: &mut Scrub,
    ) -> Result<(Vec<Commit>, u64), StandInError> {
        let doing = "reading the pushed commits";
        let most = self.limits.commits_per_push;
        // On standard input: a repository may have more refs than a command line has room.
        let question: Vec<String> =
            std::iter::once(new.to_owned()).chain(known.map(|id| format!("^{id}"))).collect();
        let question = lines_of(question.iter().map(String::as_str));
        let count = self.git().args(["rev-list", "--count", "--stdin"]).stdin(question.clone());
        let count = done(doing, count.run_ok().await)?;
        let total: u64 = count.stdout_text().trim().parse().map_err(|_| odd(doing, &count.stdout))?;
        let list = self
            .git()
            .args(["rev-list", "--topo-order", "--reverse", &format!("--max-count={most}"), "--stdin"])
            .stdin(question);
        let list = done(doing, list.run_ok().await)?;
        let list = list.stdout_text();
        let ids: Vec<&str> = list.lines().collect();
        let mut commits = self.commit_objects(&ids, scrub).await?;
        self.add_changes(&ids, &mut commits, scrub).await?;
        let left_out = total.saturating_sub(commits.len() as u64);
        Ok((commits, left_out))
    }

    async fn commit_objects(&self, ids: &[&str], scrub: &mut Scrub) -> Result<Vec<Commit>, StandInError> {
        let doing = "reading the pushed commits";
        let read = self.git().args(["cat-file", "--batch"]).stdin(lines_of(ids.iter().copied()));
        let read = done(doing, read.run_ok().await)?;
        let mut rest = read.stdout.as_slice();
        let mut commits = Vec::new();
        // Ends early only where more than the cap was said; the caller counts what is missing.
        while let Some((id, content, after)) = batch_entry(rest) {
            commits.push(commit(id, content, scrub).ok_or_else(|| odd(doing, content))?);
            rest = after;
        }
        Ok(commits)
    }

    async fn add_changes(
        &self,
        ids: &[&str],
        commits: &mut [Commit],
        scrub: &mut Scrub,
    ) -> Result<(), StandInError> {
        let doing = "reading what the pushed commits changed";
        let most = self.limits.files_per_commit;
        let diff = self
            .git()
            .args(["diff-tree", "--stdin", "--always", "--root", "--diff-merges=first-parent"])
            .args(["-r", "-z", "--raw", "--no-abbrev", "--no-renames"])
            .stdin(lines_of(ids.iter().copied()));
        let diff = done(doing, diff.run_ok().await)?;
        let mut blobs: Vec<(usize, usize, String)> = Vec::new();
        let mut at = None;
        let mut words = diff.stdout.split(|byte| *byte == 0);
        while let Some(word) = words.next() {
            let Some(raw) = word.strip_prefix(b":") else {
                at = commits.iter().position(|commit| commit.id.as_bytes() == word);
                continue;
            };
            let (Some(path), Some(at)) = (words.next(), at) else {
                continue;
            };
            let raw = String::from_utf8_lossy(raw);
            let mut fields = raw.split(' ').skip(1);
            let (Some(mode), Some(id), Some(status)) = (fields.next(), fields.nth(1), fields.next()) else {
                return Err(odd(doing, raw.as_bytes()));
            };
            let commit = &mut commits[at];
            if commit.files.len() >= most {
                commit.files_left_out += 1;
                continue;
            }
            if id != NONE && mode != "160000" {
                blobs.push((at, commit.files.len(), id.to_owned()));
            }
            commit.files.push(Change {
                path: scrub.short(&String::from_utf8_lossy(path), MOST_TEXT),
                status: status.chars().next().unwrap_or('?'),
                mode: mode.to_owned(),
                size: None,
            });
        }
        if diff.stdout_truncated {
            // What is missing was not counted; it is said that something is, for each commit that it may belong to.
            commits.iter_mut().skip(at.unwrap_or(0)).for_each(|commit| commit.files_left_out += 1);
        }
        let sizes = self.sizes(blobs.iter().map(|(_, _, id)| id.as_str())).await?;
        for (commit, file, id) in blobs {
            commits[commit].files[file].size = sizes.get(&id).copied();
        }
        Ok(())
    }

    async fn sizes<'a>(&self, ids: impl Iterator<Item = &'a str>) -> Result<Sizes, StandInError> {
        let question = lines_of(ids);
        if question.is_empty() {
            return Ok(Sizes::new());
        }
        let asked = self
            .git()
            .args(["cat-file", "--batch-check=%(objectname) %(objecttype) %(objectsize)"])
            .stdin(question);
        let asked = done("reading the sizes of pushed files", asked.run_ok().await)?;
        let said = asked.stdout_text();
        let size = |line: &str| {
            let mut words = line.split(' ');
            let id = words.next()?.to_owned();
            words.nth(1)?.parse().ok().map(|size| (id, size))
        };
        Ok(said.lines().filter_map(size).collect())
    }
}

/// The answer's beginning, for its reasons; it stands at its beginning again after that.
async fn report(served: &mut Served) -> Result<Vec<u8>, StandInError> {
    use tokio::io::{AsyncReadExt as _, AsyncSeekExt as _};
    let failed = |source| StandInError::Folder { folder: "spool".into(), source };
    let start = served.body.stream_position().await.map_err(failed)?;
    let mut bytes = Vec::new();
    (&mut served.body).take(MOST_REPORT).read_to_end(&mut bytes).await.map_err(failed)?;
    served.body.seek(std::io::SeekFrom::Start(start)).await.map_err(failed)?;
    Ok(bytes)
}

/// `ID TYPE SIZE\n`, the content, `\n`; and what follows.
fn batch_entry(bytes: &[u8]) -> Option<(&str, &[u8], &[u8])> {
    let end = bytes.iter().position(|byte| *byte == b'\n')?;
    let head = std::str::from_utf8(&bytes[..end]).ok()?;
    let mut words = head.split(' ');
    let (id, size) = (words.next()?, words.nth(1)?);
    let from = end + 1;
    let to = from.checked_add(size.parse().ok()?)?;
    Some((id, bytes.get(from..to)?, bytes.get(to.checked_add(1)?..)?))
}

fn commit(id: &str, content: &[u8], scrub: &mut Scrub) -> Option<Commit> {
    let split = content.windows(2).position(|window| window == b"\n\n").unwrap_or(content.len());
    let head = String::from_utf8_lossy(&content[..split]);
    let message = String::from_utf8_lossy(content.get(split + 2..).unwrap_or_default());
    let mut parents = Vec::new();
    let (mut author, mut committer) = (None, None);
    for line in head.lines() {
        match line.split_once(' ') {
            Some(("parent", id)) => parents.push(id.to_owned()),
            Some(("author", rest)) => author = person(rest, scrub),
            Some(("committer", rest)) => committer = person(rest, scrub),
            _ => {}
        }
    }
    Some(Commit {
        id: id.to_owned(),
        parents,
        author: author?,
        committer: committer?,
        message: scrub.short(&message, MOST_TEXT),
        files: Vec::new(),
        files_left_out: 0,
    })
}

/// `NAME <EMAIL> SECONDS OFFSET`.
fn person(text: &str, scrub: &mut Scrub) -> Option<Person> {
    let (name, rest) = text.split_once('<')?;
    let (email, rest) = rest.rsplit_once('>')?;
    let mut words = rest.split_ascii_whitespace();
    let seconds: i64 = words.next()?.parse().ok()?;
    Some(Person {
        name: scrub.short(name.trim(), MOST_TEXT),
        email: scrub.short(email, MOST_TEXT),
        at: Micros(seconds.saturating_mul(1_000_000)),
        offset: words.next().unwrap_or("+0000").to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::{batch_entry, commit, person};
    use crate::auth::Tokens;

    #[test]
    fn a_commit_is_read_with_its_oddities() {
        let mut scrub = Tokens::new(Vec::new()).scrub();
        let text = b"tree t\nparent p1\nparent p2\nauthor Ada <ada@x> 1700000000 +0130\n\
                     committer C <> 1 -0000\ngpgsig -----BEGIN\n parent no\n -----END\n\nTitle\n\nauthor no\n";
        let read = commit("id", text, &mut scrub).expect("a commit");
        assert_eq!(read.parents, ["p1", "p2"]);
        assert_eq!((read.author.name.as_str(), read.author.offset.as_str()), ("Ada", "+0130"));
        assert_eq!(read.author.at.0, 1_700_000_000_000_000);
        assert_eq!((read.committer.name.as_str(), read.committer.email.as_str()), ("C", ""));
        assert_eq!(read.message, "Title\n\nauthor no\n");
        assert!(commit("id", b"tree t\n\nno author", &mut scrub).is_none());
        assert!(person("nobody", &mut scrub).is_none());
        assert!(person("a <b> later", &mut scrub).is_none());
    }

    #[test]
    fn entries_follow_one_another_and_a_cut_one_is_none() {
        let (id, content, rest) = batch_entry(b"abc commit 3\nx\ny\nrest").expect("an entry");
        assert_eq!((id, content, rest), ("abc", &b"x\ny"[..], &b"rest"[..]));
        for cut in [&b"abc commit 3\nx\n"[..], b"abc commit 99999999999999999999\n", b"abc missing\n", b""] {
            assert!(batch_entry(cut).is_none());
        }
    }
}
