//! What the forge knows.

use std::collections::{BTreeMap, BTreeSet};

use assay_model::Micros;

use super::Dialect;
use super::fault::{Asked, Fault, Match};
use super::hooks::Delivery;

/// What a token may be used for. To write is to read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Scope {
    /// Issues, pull requests' comments.
    ReadIssue,
    /// Comments.
    WriteIssue,
    /// Repositories, pull requests.
    ReadRepository,
    /// Statuses and webhooks.
    WriteRepository,
    /// Members.
    ReadOrganization,
    /// Whose token it is.
    ReadUser,
}

/// A comment as it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Told {
    /// Its number.
    pub id: u64,
    /// Who wrote it.
    pub author: Option<String>,
    /// Its text.
    pub body: String,
}

/// A status as it was set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WrittenStatus {
    /// Whose.
    pub context: String,
    /// `pending`, `success`, `failure`, `error`, `warning`.
    pub state: String,
    /// One line.
    pub description: String,
    /// An address.
    pub target_url: Option<String>,
}

pub(super) struct World {
    pub(super) dialect: Dialect,
    pub(super) url: String,
    /// By its own clock, which is wrong by `skew`.
    pub(super) now: Micros,
    pub(super) skew: Micros,
    pub(super) repos: BTreeMap<String, Repo>,
    pub(super) orgs: BTreeMap<String, Org>,
    pub(super) tokens: BTreeMap<String, Token>,
    users: BTreeMap<String, u64>,
    pub(super) page_limit: usize,
    pub(super) rate: Option<Window>,
    pub(super) faults: Vec<(Match, Fault, usize)>,
    pub(super) asked: Vec<Asked>,
    pub(super) deliveries: Vec<Delivery>,
    pub(super) next_id: u64,
}

pub(super) struct Token {
    pub(super) login: String,
    pub(super) scopes: BTreeSet<Scope>,
}

pub(super) struct Window {
    pub(super) limit: u64,
    pub(super) remaining: u64,
    pub(super) resets_at: Micros,
}

#[derive(Default)]
pub(super) struct Org {
    /// Whether everybody may know.
    pub(super) members: BTreeMap<String, bool>,
    pub(super) teams: BTreeMap<String, (u64, BTreeSet<String>)>,
}

pub(super) struct Repo {
    pub(super) id: u64,
    pub(super) writers: BTreeSet<String>,
    pub(super) pulls: BTreeMap<u64, Pull>,
    pub(super) issues: BTreeSet<u64>,
    pub(super) comments: BTreeMap<u64, Comment>,
    pub(super) statuses: BTreeMap<String, Vec<WrittenStatus>>,
    pub(super) hooks: Vec<Hook>,
    /// What it is a fork of.
    pub(super) fork_of: Option<String>,
    next_number: u64,
}

#[derive(Clone)]
pub(super) struct Pull {
    pub(super) number: u64,
    pub(super) author: String,
    pub(super) title: String,
    pub(super) is_open: bool,
    pub(super) merged_at: Option<Micros>,
    pub(super) head: String,
    pub(super) head_ref: String,
    pub(super) head_repo: String,
    pub(super) base: String,
    pub(super) updated_at: Micros,
    /// Path, and the one before where it was renamed.
    pub(super) files: Vec<(String, Option<String>)>,
}

#[derive(Clone)]
pub(super) struct Comment {
    pub(super) id: u64,
    pub(super) number: u64,
    pub(super) author: Option<String>,
    pub(super) body: String,
    pub(super) created_at: Micros,
    pub(super) updated_at: Micros,
}

#[derive(Clone)]
pub(super) struct Hook {
    pub(super) id: u64,
    pub(super) url: String,
    pub(super) secret: String,
    pub(super) content_type: String,
    pub(super) events: Vec<String>,
    pub(super) is_active: bool,
    pub(super) kind: String,
}

impl World {
    pub(super) fn new(dialect: Dialect, url: String) -> Self {
        Self {
            dialect,
            url,
            now: Micros(0),
            skew: Micros(0),
            repos: BTreeMap::new(),
            orgs: BTreeMap::new(),
            tokens: BTreeMap::new(),
            users: BTreeMap::new(),
            page_limit: if dialect == Dialect::Forgejo { 50 } else { 100 },
            rate: None,
            faults: Vec::new(),
            asked: Vec::new(),
            deliveries: Vec::new(),
            next_id: 100,
        }
    }

    /// Forges keep whole seconds.
    pub(super) fn tick(&mut self, now: Micros) {
        let now = now.plus(self.skew);
        self.now = Micros(now.0.div_euclid(1_000_000) * 1_000_000);
    }

    pub(super) fn id(&mut self) -> u64 {
        self.next_id += 1;
        self.next_id
    }

    pub(super) fn user_id(&mut self, login: &str) -> u64 {
        let fresh = self.users.len() as u64 + 1;
        *self.users.entry(login.to_owned()).or_insert(fresh)
    }

    pub(super) fn add_token(&mut self, token: &str, login: &str, scopes: &[Scope]) {
        self.user_id(login);
        let scopes = scopes.iter().copied().collect();
        self.tokens.insert(token.to_owned(), Token { login: login.to_owned(), scopes });
    }

    pub(super) fn add_repository(&mut self, name: &str) {
        let id = self.id();
        let repo = Repo {
            id,
            writers: [super::ForgeDouble::BOT.to_owned()].into(),
            pulls: BTreeMap::new(),
            issues: BTreeSet::new(),
            comments: BTreeMap::new(),
            statuses: BTreeMap::new(),
            hooks: Vec::new(),
            fork_of: None,
            next_number: 1,
        };
        assert!(self.repos.insert(name.to_owned(), repo).is_none(), "{name} is there already");
    }

    /// A repository of somebody else's that began as a copy; only its owner writes to it.
    pub(super) fn add_fork(&mut self, of: &str, name: &str) {
        assert!(self.repos.contains_key(of), "there is no repository {of}");
        self.add_repository(name);
        let owner = name.split_once('/').expect("OWNER/NAME").0.to_owned();
        self.user_id(&owner);
        let repo = self.repo(name);
        (repo.fork_of, repo.writers) = (Some(of.to_owned()), [owner].into());
    }

    pub(super) fn repo(&mut self, name: &str) -> &mut Repo {
        self.repos.get_mut(name).unwrap_or_else(|| panic!("there is no repository {name}"))
    }

    pub(super) fn pull(&mut self, repo: &str, number: u64) -> &mut Pull {
        let now = self.now;
        let pull =
            self.repo(repo).pulls.get_mut(&number).unwrap_or_else(|| panic!("there is no {repo}#{number}"));
        pull.updated_at = now;
        pull
    }

    pub(super) fn comment(&mut self, repo: &str, id: u64) -> &mut Comment {
        self.repo(repo).comments.get_mut(&id).unwrap_or_else(|| panic!("there is no comment {id} in {repo}"))
    }

    pub(super) fn add_member(&mut self, org: &str, login: &str, is_public: bool) {
        self.user_id(login);
        self.orgs.entry(org.to_owned()).or_default().members.insert(login.to_owned(), is_public);
    }

    pub(super) fn add_to_team(&mut self, org: &str, team: &str, login: &str) {
        let id = self.id();
        let teams = &mut self.orgs.entry(org.to_owned()).or_default().teams;
        teams.entry(team.to_owned()).or_insert((id, BTreeSet::new())).1.insert(login.to_owned());
    }

    #[expect(clippy::too_many_arguments, reason = "a pull request is all of these")]
    pub(super) fn open_pull(
        &mut self,
        repo: &str,
        from: &str,
        author: &str,
        branch: &str,
        head: &str,
        base: &str,
        files: Vec<(String, Option<String>)>,
    ) -> u64 {
        self.user_id(author);
        let now = self.now;
        let repository = self.repo(repo);
        let number = repository.next_number;
        repository.next_number += 1;
        let pull = Pull {
            number,
            author: author.to_owned(),
            title: format!("Change {number}"),
            is_open: true,
            merged_at: None,
            head: head.to_owned(),
            head_ref: branch.to_owned(),
            head_repo: from.to_owned(),
            base: base.to_owned(),
            updated_at: now,
            files,
        };
        repository.pulls.insert(number, pull);
        self.pull_changed(repo, number, "opened");
        number
    }

    pub(super) fn open_issue(&mut self, repo: &str) -> u64 {
        let repository = self.repo(repo);
        let number = repository.next_number;
        repository.next_number += 1;
        repository.issues.insert(number);
        number
    }

    pub(super) fn has_thread(&mut self, repo: &str, number: u64) -> bool {
        let repository = self.repo(repo);
        repository.pulls.contains_key(&number) || repository.issues.contains(&number)
    }

    pub(super) fn say(&mut self, repo: &str, number: u64, author: &str, body: &str) -> u64 {
        assert!(self.has_thread(repo, number), "there is no {repo}#{number}");
        self.user_id(author);
        let (id, now) = (self.id(), self.now);
        let author = Some(author.to_owned());
        let comment = Comment { id, number, author, body: body.to_owned(), created_at: now, updated_at: now };
        self.repo(repo).comments.insert(id, comment);
        self.comment_changed(repo, id, "created");
        id
    }

    pub(super) fn edit(&mut self, repo: &str, id: u64, body: &str) {
        let now = self.now;
        let comment = self.comment(repo, id);
        (comment.body, comment.updated_at) = (body.to_owned(), now);
        self.comment_changed(repo, id, "edited");
    }

    pub(super) fn delete(&mut self, repo: &str, id: u64) {
        self.comment_changed(repo, id, "deleted");
        self.repo(repo).comments.remove(&id);
    }

    pub(super) fn told(&mut self, repo: &str, number: u64) -> Vec<Told> {
        let all = self.repo(repo).comments.values().filter(|comment| comment.number == number);
        all.map(|comment| Told { id: comment.id, author: comment.author.clone(), body: comment.body.clone() })
            .collect()
    }

    /// The fault that strikes this request.
    pub(super) fn strike(&mut self, method: &str, path: &str) -> Option<Fault> {
        let place =
            self.faults.iter().position(|(matching, _, times)| *times > 0 && matching.fits(method, path))?;
        self.faults[place].2 -= 1;
        Some(self.faults[place].1.clone())
    }
}
