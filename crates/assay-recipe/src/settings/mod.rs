//! What a recipe says about its own tests: `tests/assay.toml`, typed.
//!
//! Everything has a default that suits a plain web app, so most recipes need three lines or no file. [`registry::KEYS`] is the
//! one list of keys, with types, defaults and sentences: the loader, the documentation and the schema are made from it, and a
//! test holds these structs against it. [`Settings`] travels as JSON inside of a run, and is `meta` in what hooks and tests see.

pub mod docs;
pub mod duration;
pub mod import;
mod load;
mod names;
mod near;
mod place;
pub mod registry;
pub mod schema;
mod write;

use std::time::Duration;

use indexmap::IndexMap;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use load::{LoadedSettings, MAX_BYTES};
pub(crate) use near::{did_you_mean, nearest};
pub(crate) use write::inline;

/// The name of the file.
pub const FILE: &str = "assay.toml";

/// How a recipe's tests are run.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// Deploying it.
    pub deploy: Deploy,
    /// What its web face answers.
    pub http: Http,
    /// Where upgrades start.
    pub upgrade: Upgrade,
    /// Backing it up.
    pub backup: Backup,
    /// Databases that a row is written into before a backup, and looked for after the restore.
    pub databases: Vec<Database>,
    /// What has to run before it is deployed.
    pub dependencies: Vec<Dependency>,
    /// The picture of it.
    pub screenshot: Screenshot,
    /// What is known not to apply.
    pub expect: Expect,
    /// Stages that run only where they are asked for.
    pub stages: Stages,
    /// What a run of it takes of the machine.
    pub needs: Needs,
}

/// How it is deployed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Deploy {
    /// The wait budget of one operation: pulling is not in it, converging and answering are.
    #[serde(with = "duration")]
    #[schemars(with = "String")]
    pub timeout: Duration,
    /// Variables of the app, on top of `.env.sample`, in their order.
    #[schemars(with = "std::collections::BTreeMap<String, String>")]
    pub env: IndexMap<String, String>,
    /// Variables on top of those, from the upgrade on.
    #[schemars(with = "std::collections::BTreeMap<String, String>")]
    pub upgrade_env: IndexMap<String, String>,
    /// How many restarts of a service are no crash loop yet, by service.
    #[schemars(with = "std::collections::BTreeMap<String, u32>")]
    pub tolerate_restarts: IndexMap<String, u32>,
    /// The service that such a service waits for: once that one has been ready, its restarts are counted as anybody's.
    #[schemars(with = "std::collections::BTreeMap<String, String>")]
    pub tolerate_until: IndexMap<String, String>,
    /// Secrets that cannot be generated: the compose key of the secret, and its value. Values for tests only.
    #[schemars(with = "std::collections::BTreeMap<String, String>")]
    pub secrets: IndexMap<String, String>,
}

/// What its web face answers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Http {
    /// The path that is asked for.
    pub path: String,
    /// Status codes that are an answer.
    pub status: Vec<u16>,
    /// How long the answer may take to come, after everything has converged.
    #[serde(with = "duration")]
    #[schemars(with = "String")]
    pub timeout: Duration,
    /// Text that the body has.
    pub contains: Option<String>,
    /// What `Content-Type` begins with.
    pub content_type: Option<String>,
    /// The service that answers; `app` unless set.
    pub service: Option<String>,
    /// Its port; that of traefik's label `loadbalancer.server.port` unless set.
    pub port: Option<u16>,
    /// It has no web face: nothing is asked.
    pub none: bool,
}

/// Where upgrades start.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Upgrade {
    /// Releases that an upgrade is tested from: the first is the one that a run goes on with, each further one has a stack of its own;
    /// empty is the one before.
    pub from: Vec<String>,
}

/// Backing it up.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Backup {
    /// Whether it can be backed up; without it, its labels say so.
    pub capable: Option<bool>,
    /// How often a backup that `backup_verify` refused is taken again: 0 to 3.
    pub recaptures: u8,
}

/// A database inside of the stack.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Database {
    /// Which.
    pub kind: DatabaseKind,
    /// The service in whose container its client runs.
    pub service: String,
    /// Who connects; `postgres` or `root` unless set. Not for SQLite.
    #[serde(default)]
    pub user: Option<String>,
    /// The database; the user's name unless set. Not for SQLite.
    #[serde(default)]
    pub database: Option<String>,
    /// The file inside of the container that has the password. Not for SQLite.
    #[serde(default)]
    pub password_file: Option<String>,
    /// The database's file inside of the container. For SQLite alone, which needs it.
    #[serde(default)]
    pub path: Option<String>,
}

/// Databases that can be asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum DatabaseKind {
    /// PostgreSQL, through `psql`.
    Postgres,
    /// MariaDB or MySQL, through `mariadb` or `mysql`.
    Mariadb,
    /// A file of SQLite.
    Sqlite,
}

/// Something that has to run before the recipe is deployed: another recipe, or a provider that Assay brings.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Dependency {
    /// What hooks and tests find its credentials under: `deps.NAME`.
    pub name: String,
    /// Whether it is this run's alone.
    #[serde(default)]
    pub kind: DependencyKind,
    /// The recipe: the name of one that the trusted side has. This or `provider`.
    #[serde(default)]
    pub recipe: Option<String>,
    /// What Assay brings. This or `recipe`.
    #[serde(default)]
    pub provider: Option<Provider>,
    /// Variables of the app; `{name}` in a value is that credential of the dependency.
    #[serde(default)]
    #[schemars(with = "std::collections::BTreeMap<String, String>")]
    pub env: IndexMap<String, String>,
    /// Secrets of the app by their compose key; `{name}` in a value is that credential of the dependency.
    #[serde(default)]
    #[schemars(with = "std::collections::BTreeMap<String, String>")]
    pub secrets: IndexMap<String, String>,
}

/// Whose a dependency is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum DependencyKind {
    /// Deployed for this run, and gone with it. It counts as one deployment.
    #[default]
    Cold,
    /// Kept running between runs; each run has a realm of its own in it.
    Warm,
}

/// What Assay can bring as a dependency.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Provider {
    /// An OpenID Connect provider with one user.
    Oidc,
}

/// The picture of it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Screenshot {
    /// The path that is pictured; `http.path` unless set.
    pub path: Option<String>,
}

/// What is known not to apply.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Expect {
    /// Rungs that do not apply to this recipe, each with the reason.
    #[schemars(with = "std::collections::BTreeMap<Rung, String>")]
    pub not_applicable: IndexMap<Rung, String>,
}

/// The rungs of the ladder that gives a recipe its level.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Rung {
    /// L1: it installs.
    Install,
    /// L2: it upgrades.
    Upgrade,
    /// L3: it is backed up and restored.
    Backup,
    /// L4: its own tests.
    Functional,
    /// L5: lint.
    Lint,
}

impl Rung {
    /// Every rung, in the order of the ladder.
    pub const ALL: [Self; 5] = [Self::Install, Self::Upgrade, Self::Backup, Self::Functional, Self::Lint];

    /// As it is written.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Install => "install",
            Self::Upgrade => "upgrade",
            Self::Backup => "backup",
            Self::Functional => "functional",
            Self::Lint => "lint",
        }
    }
}

/// Stages that run only where they are asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Stages {
    /// A second deployment of the same changes nothing.
    pub idempotence: bool,
    /// Back to the version before, with its data.
    pub rollback: bool,
}

/// What a run of it takes of the machine; unset is the runner's own estimate.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Needs {
    /// Memory, in MiB.
    pub mem_mib: Option<u32>,
    /// Processors.
    pub cpu: Option<u32>,
    /// Share of the disk's work: 1 is a plain app, 10 is one that needs the disk to itself.
    pub io: Option<u32>,
}

impl Default for Deploy {
    fn default() -> Self {
        Self {
            timeout: Duration::from_mins(10),
            env: IndexMap::new(),
            upgrade_env: IndexMap::new(),
            tolerate_restarts: IndexMap::new(),
            tolerate_until: IndexMap::new(),
            secrets: IndexMap::new(),
        }
    }
}

impl Default for Http {
    fn default() -> Self {
        Self {
            path: "/".to_owned(),
            status: vec![200],
            timeout: Duration::from_mins(1),
            contains: None,
            content_type: None,
            service: None,
            port: None,
            none: false,
        }
    }
}

/// A dependency's setting that names a credential which it does not have.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{setting}` of the dependency `{dependency}` asks for `{{{credential}}}`, which it does not have; it has {known}"
)]
pub struct UnknownCredential {
    /// The dependency.
    pub dependency: String,
    /// The variable or secret.
    pub setting: String,
    /// What it asks for.
    pub credential: String,
    /// What there is, for people.
    pub known: String,
}

impl Dependency {
    /// Values of `env` or `secrets` with credentials in place of `{name}`. `{{` and `}}` stand for a brace.
    ///
    /// # Errors
    /// [`UnknownCredential`].
    pub fn filled(
        &self,
        values: &IndexMap<String, String>,
        credentials: &IndexMap<String, String>,
    ) -> Result<IndexMap<String, String>, UnknownCredential> {
        let mut filled = IndexMap::new();
        for (setting, value) in values {
            let text = fill(value, |name| credentials.get(name).cloned()).map_err(|credential| {
                let known: Vec<String> = credentials.keys().map(|name| format!("`{name}`")).collect();
                UnknownCredential {
                    dependency: self.name.clone(),
                    setting: setting.clone(),
                    credential,
                    known: if known.is_empty() { "none".to_owned() } else { known.join(", ") },
                }
            })?;
            filled.insert(setting.clone(), text);
        }
        Ok(filled)
    }
}

/// `Err` is a name that nothing stands for. A brace without its other half stands for itself.
pub(crate) fn fill(text: &str, value: impl Fn(&str) -> Option<String>) -> Result<String, String> {
    let mut filled = String::new();
    let mut rest = text;
    while let Some(at) = rest.find(['{', '}']) {
        filled.push_str(&rest[..at]);
        rest = &rest[at..];
        if rest.starts_with("{{") || rest.starts_with("}}") {
            filled.push_str(&rest[..1]);
            rest = &rest[2..];
        } else if let Some(end) = rest.find('}').filter(|_| rest.starts_with('{')) {
            let name = &rest[1..end];
            filled.push_str(&value(name).ok_or_else(|| name.to_owned())?);
            rest = &rest[end + 1..];
        } else {
            filled.push_str(&rest[..1]);
            rest = &rest[1..];
        }
    }
    filled.push_str(rest);
    Ok(filled)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dependency_gives_its_credentials_to_variables() {
        let dependency: Dependency = serde_json::from_value(serde_json::json!({
            "name": "sso", "provider": "oidc",
            "env": { "OIDC_URL": "{issuer}/.well-known/openid-configuration", "JSON": "{{\"id\": \"{client_id}\"}}", "ODD": "a } b { c" },
            "secrets": { "oidc_secret": "{client_secrte}" },
        }))
        .unwrap();
        let has = |pairs: &[(&str, &str)]| -> IndexMap<String, String> {
            pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
        };
        let credentials =
            has(&[("issuer", "https://sso.test"), ("client_id", "app"), ("client_secret", "s3cret")]);
        let filled = dependency.filled(&dependency.env, &credentials).unwrap();
        assert_eq!(
            filled,
            has(&[
                ("OIDC_URL", "https://sso.test/.well-known/openid-configuration"),
                ("JSON", "{\"id\": \"app\"}"),
                ("ODD", "a } b { c"),
            ])
        );
        let error = dependency.filled(&dependency.secrets, &credentials).unwrap_err();
        insta::assert_snapshot!(error, @"`oidc_secret` of the dependency `sso` asks for `{client_secrte}`, which it does not have; it has `issuer`, `client_id`, `client_secret`");
    }
}
