//! What has to run before a recipe is deployed: provided before its one deployment, known to it by variables and secrets, and taken
//! away at the end.
//!
//! Each dependency has a name below the app's domain, which the run's proxy serves. The recipe's containers reach that and the app's
//! own domain there, and are told the authority that signed the proxy's certificate: nothing else could vouch for either.

mod cold;
mod oidc;
mod warm;

use std::collections::BTreeMap;
use std::path::PathBuf;

use assay_recipe::compose::model::{Compose, Object, ObjectUse};
use assay_recipe::settings::{Dependency, DependencyKind, Provider};
use assay_swarm::Census;
use indexmap::IndexMap;
use uuid::Uuid;

use self::cold::ColdStack;
use self::oidc::{Bundle, OidcProvider, Realm};
use super::front::Behind;
use super::{Phases, Tell, Test};

pub use self::warm::Warm;

/// Where containers find the authority of the run.
pub(super) const CA_FILE: &str = "/run/assay/ca.pem";
/// What it is called among a stack's configs.
const CA_CONFIG: &str = "assay_ca";
/// What the usual clients read an authority from; one that a service sets for itself is left alone.
pub(super) const CA_VARIABLES: [&str; 4] =
    ["SSL_CERT_FILE", "CURL_CA_BUNDLE", "REQUESTS_CA_BUNDLE", "NODE_EXTRA_CA_CERTS"];
/// The longest name below the domain: a stack's name has to have room for both.
const LONGEST_NAME: usize = 20;

/// The dependencies of a run that are up.
#[derive(Default)]
pub(super) struct Dependencies {
    up: Vec<Up>,
    /// What the daemon had before them.
    before: Option<Census>,
    /// What differs from what was asked for.
    remarks: Vec<String>,
}

/// One that is up.
struct Up {
    name: String,
    host: String,
    credentials: IndexMap<String, String>,
    held: Held,
}

/// What there is of it.
enum Held {
    /// A provider of this run's alone.
    Provider { provider: Box<OidcProvider>, realm: String },
    /// A realm in one that is kept running.
    Realm { realm: String },
    /// Another recipe's stack, in the run's daemon.
    Stack(ColdStack),
}

/// A dependency that did not come up: the recipe under test cannot be told anything of.
pub(super) struct Failed {
    pub(super) dependency: String,
    pub(super) why: String,
}

/// Variables of the app, and its secrets by their compose key.
type Given = (IndexMap<String, String>, IndexMap<String, String>);

impl Dependencies {
    /// Credentials by the dependency's name: what hooks and tests are told.
    pub(super) fn credentials(&self) -> IndexMap<String, IndexMap<String, String>> {
        self.up.iter().map(|up| (up.name.clone(), up.credentials.clone())).collect()
    }

    /// Values that nobody should see, with what they are called.
    pub(super) fn secrets(&self) -> impl Iterator<Item = (String, &str)> {
        self.up.iter().flat_map(|up| {
            let secret = |name: &str| {
                !["issuer", "discovery_url", "client_id", "username", "name", "email", "domain", "url"]
                    .contains(&name)
            };
            let secrets = up.credentials.iter().filter(move |(name, _)| secret(name));
            secrets.map(|(name, value)| (format!("{} of the dependency {}", name, up.name), value.as_str()))
        })
    }

    /// What differs from what was asked for.
    pub(super) fn remarks(&self) -> &[String] {
        &self.remarks
    }
}

impl Test {
    /// Brings everything up that the recipe depends on, where it is not up yet.
    pub(super) async fn provide(
        &mut self,
        phases: &mut Phases,
        tell: Tell<'_>,
    ) -> Result<Result<(), Failed>, String> {
        let wanted = self.spec.settings.dependencies.clone();
        let is_up = |name: &str, up: &[Up]| up.iter().any(|up| up.name == name);
        if wanted.iter().all(|wanted| is_up(&wanted.name, &self.dependencies.up)) {
            return Ok(Ok(()));
        }
        let hosts = match hosts(&wanted, &self.domain) {
            Ok(hosts) => hosts,
            Err(failed) => return Ok(Err(failed)),
        };
        if self.dependencies.before.is_none() {
            self.dependencies.before = self.stand.as_ref().map(|stand| stand.census.clone());
        }
        for (dependency, host) in wanted.iter().zip(&hosts) {
            if is_up(&dependency.name, &self.dependencies.up) {
                continue;
            }
            tell(&format!("dependency {}", dependency.name));
            let phase = format!("dependency {}", dependency.name);
            let failed = |why| Failed { dependency: dependency.name.clone(), why };
            let up = match (&dependency.recipe, dependency.provider) {
                (None, Some(Provider::Oidc)) => {
                    Ok(phases.time(&phase, self.provider(dependency, host)).await?)
                }
                (Some(recipe), None) => {
                    phases.time(&phase, self.other_recipe(recipe, dependency, host)).await?
                }
                _ => Err("a dependency has either `recipe` or `provider`".to_owned()),
            };
            match up {
                Ok(up) => self.dependencies.up.push(up),
                Err(why) => return Ok(Err(failed(why))),
            }
        }
        if let Some(stand) = &mut self.stand {
            // What they brought is not the recipe's.
            stand.census = stand.swarm().census().await.map_err(|error| error.to_string())?;
        }
        Ok(Ok(()))
    }

    /// A realm for this run in a provider of its own, or in the one that is kept running.
    async fn provider(&mut self, dependency: &Dependency, host: &str) -> Result<Up, String> {
        let words = |error: oidc::OidcError| error.to_string();
        let run = self.run.to_string().replace('-', "");
        let place = self.dependencies.up.len();
        let beside = match self.further {
            0 => String::new(),
            further => format!("u{further}"),
        };
        let id = format!("r{}{place}{beside}", &run[run.len().saturating_sub(12)..]);
        let realm = Realm {
            issuer: format!("https://{host}/{id}"),
            origin: format!("https://{}", self.domain),
            client_id: format!("assay-{id}"),
            client_secret: Uuid::new_v4().simple().to_string(),
            username: "ada".to_owned(),
            password: Uuid::new_v4().simple().to_string(),
            name: "Ada Lovelace".to_owned(),
            email: "ada@example.com".to_owned(),
        };
        let (held, socket) = match dependency.kind {
            DependencyKind::Cold => {
                let folder = self.folder.path().join(format!("p{place}"));
                Bundle::brought().and_then(|bundle| bundle.unpack(&folder)).map_err(words)?;
                let provider = Box::new(OidcProvider::start(&folder).await.map_err(words)?);
                provider.make(&id, &realm).await.map_err(words)?;
                let socket = provider.socket().to_owned();
                (Held::Provider { provider, realm: id }, socket)
            }
            DependencyKind::Warm => {
                let at = self.settings.warm.realm(&self.warm_folder(), &id, &realm).await?;
                let remark = at.remark.map(|remark| format!("dependency {}: {remark}", dependency.name));
                self.dependencies.remarks.extend(remark);
                tracing::debug!(
                    provider.version = at.version,
                    "a realm in the provider that is kept running"
                );
                (Held::Realm { realm: id }, at.socket)
            }
        };
        if let Some(stand) = &self.stand {
            stand.front.set_host(host, Some(Behind::Socket(socket)));
        }
        let credentials = [
            ("issuer", realm.issuer.clone()),
            ("discovery_url", format!("{}/.well-known/openid-configuration", realm.issuer)),
            ("client_id", realm.client_id),
            ("client_secret", realm.client_secret),
            ("username", realm.username),
            ("password", realm.password),
            ("name", realm.name),
            ("email", realm.email),
        ];
        let credentials = credentials.map(|(name, value)| (name.to_owned(), value)).into_iter().collect();
        Ok(Up { name: dependency.name.clone(), host: host.to_owned(), credentials, held })
    }

    /// Beside the folders of the runs: it is the runner's.
    fn warm_folder(&self) -> PathBuf {
        self.settings.folder.join("warm")
    }

    /// What its dependencies give the app.
    pub(super) fn given(&self) -> Result<Given, String> {
        let (mut env, mut secrets) = (IndexMap::new(), IndexMap::new());
        for dependency in &self.spec.settings.dependencies {
            let Some(up) = self.dependencies.up.iter().find(|up| up.name == dependency.name) else {
                continue;
            };
            let mut known = up.credentials.clone();
            known.insert("ca_file".to_owned(), CA_FILE.to_owned());
            let failed = |error: assay_recipe::settings::UnknownCredential| error.to_string();
            env.extend(dependency.filled(&dependency.env, &known).map_err(failed)?);
            secrets.extend(dependency.filled(&dependency.secrets, &known).map_err(failed)?);
        }
        Ok((env, secrets))
    }

    /// Every name that the run's proxy serves.
    pub(super) fn served(&self) -> Vec<String> {
        std::iter::once(self.domain.clone())
            .chain(self.dependencies.up.iter().map(|up| up.host.clone()))
            .collect()
    }

    /// Lets the containers of a stack reach the app and its dependencies by their names, and trust their certificate. What was
    /// changed, for people; nothing where there are no dependencies.
    pub(super) fn lead_to_dependencies(
        &self,
        compose: &mut Compose,
        files: &mut BTreeMap<String, Vec<u8>>,
    ) -> Result<Option<String>, String> {
        if self.spec.settings.dependencies.is_empty() {
            return Ok(None);
        }
        let Some(stand) = &self.stand else { return Ok(None) };
        let ca = &stand.front.ca_file;
        let authority = std::fs::read(ca).map_err(|error| format!("{}: {error}", ca.display()))?;
        let served = self.served();
        files.insert(CA_CONFIG.to_owned(), authority);
        lead(compose, &served, &stand.address());
        Ok(Some(format!(
            "every service: {} lead to the run's proxy, and {} name the authority of its certificate ({CA_FILE}), so that it \
             reaches its dependencies",
            served.join(", "),
            CA_VARIABLES.join(", ")
        )))
    }

    /// Takes other recipes' stacks away: how many things went, and what did not.
    pub(super) async fn destroy_dependencies(&mut self) -> Result<(u64, Vec<String>), String> {
        let (mut gone, mut left) = (0, Vec::new());
        let Some(stand) = &mut self.stand else { return Ok((0, left)) };
        for up in &self.dependencies.up {
            let Held::Stack(stack) = &up.held else { continue };
            stand.front.set_host(&up.host, None);
            let (things, stay) = stack.destroy(stand.swarm()).await?;
            gone += things;
            left.extend(stay.into_iter().map(|thing| format!("dependency {}: {thing}", up.name)));
        }
        if let Some(before) = self.dependencies.before.take() {
            stand.census = before;
        }
        Ok((gone, left))
    }

    /// Ends providers, and gives realms back; what happened in them is kept.
    pub(super) async fn release_dependencies(&mut self) -> Vec<String> {
        let mut troubles = Vec::new();
        for up in std::mem::take(&mut self.dependencies.up) {
            let log = match up.held {
                Held::Stack(_) => continue,
                Held::Realm { realm } => self.settings.warm.give_back(&realm).await,
                Held::Provider { provider, realm } => {
                    let log = provider.remove(&realm).await.map_err(|error| error.to_string());
                    troubles.extend(provider.stop().await.err().map(|error| error.to_string()));
                    log
                }
            };
            match log {
                Ok(log) => {
                    let text = log.join("\n") + "\n";
                    self.artifacts.push((format!("dependency-{}.log", up.name), text.into_bytes()));
                }
                Err(why) => troubles.push(format!("dependency {}: {why}", up.name)),
            }
        }
        troubles
    }
}

/// The names of dependencies below the app's domain, in their order.
fn hosts(dependencies: &[Dependency], domain: &str) -> Result<Vec<String>, Failed> {
    let mut hosts: Vec<String> = Vec::new();
    for dependency in dependencies {
        let failed = |why: String| Failed { dependency: dependency.name.clone(), why };
        // One label: that is what the certificate is for.
        let label = dependency.name.to_ascii_lowercase().replace(['.', '_'], "-");
        if label.len() > LONGEST_NAME || label.ends_with('-') {
            return Err(failed(format!(
                "its name becomes a host's: give it {LONGEST_NAME} characters at most, a letter or digit at the end"
            )));
        }
        let host = format!("{label}.{domain}");
        if hosts.contains(&host) {
            return Err(failed(format!("another dependency is {host} already; give it a name of its own")));
        }
        hosts.push(host);
    }
    Ok(hosts)
}

/// Adds names, authority and what names it to every service.
fn lead(compose: &mut Compose, served: &[String], address: &str) {
    let authority = Object {
        name: None,
        external: false,
        file: Some(CA_CONFIG.to_owned()),
        template_driver: None,
        labels: IndexMap::new(),
    };
    compose.configs.insert(CA_CONFIG.to_owned(), authority);
    for service in compose.services.values_mut() {
        service.extra_hosts.extend(served.iter().map(|name| (name.clone(), address.to_owned())));
        service.configs.push(ObjectUse {
            source: CA_CONFIG.to_owned(),
            target: Some(CA_FILE.to_owned()),
            uid: None,
            gid: None,
            mode: None,
        });
        for name in CA_VARIABLES {
            service.environment.entry(name.to_owned()).or_insert_with(|| Some(CA_FILE.to_owned()));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(names: &[&str]) -> Vec<Dependency> {
        let one = |name: &&str| {
            serde_json::from_value(serde_json::json!({ "name": name, "provider": "oidc" })).unwrap()
        };
        names.iter().map(one).collect()
    }

    #[test]
    fn each_dependency_has_a_name_below_the_domain() {
        let hosts = |names: &[&str]| {
            hosts(&named(names), "app-1.test").map_err(|failed| (failed.dependency, failed.why))
        };
        assert_eq!(hosts(&["sso", "Mail_2"]).unwrap(), ["sso.app-1.test", "mail-2.app-1.test"]);
        let (name, why) = hosts(&["a.b", "a-b"]).unwrap_err();
        assert_eq!(name, "a-b");
        insta::assert_snapshot!(why, @"another dependency is a-b.app-1.test already; give it a name of its own");
        let (_, why) = hosts(&["x-"]).unwrap_err();
        insta::assert_snapshot!(why, @"its name becomes a host's: give it 20 characters at most, a letter or digit at the end");
    }

    #[test]
    fn every_service_reaches_them_and_keeps_what_it_has_set_for_itself() {
        let mut compose = Compose::default();
        let mut app = assay_recipe::compose::model::Service::default();
        app.environment.insert("SSL_CERT_FILE".to_owned(), Some("/own.pem".to_owned()));
        compose.services.insert("app".to_owned(), app);
        compose.services.insert("worker".to_owned(), assay_recipe::compose::model::Service::default());
        lead(&mut compose, &["app.test".to_owned(), "sso.app.test".to_owned()], "10.77.0.1");
        let seen = compose.services.iter().map(|(name, service)| {
            let hosts = service.extra_hosts.iter().map(|(name, address)| format!("{address} {name}"));
            let set = service
                .environment
                .iter()
                .map(|(name, value)| format!("{name}={}", value.as_deref().unwrap_or("")));
            let lines: Vec<String> = hosts.chain(set).collect();
            format!("{name}: {} config\n  {}", service.configs.len(), lines.join("\n  "))
        });
        let seen: Vec<String> = seen.collect();
        insta::assert_snapshot!(seen.join("\n"), @"
        app: 1 config
          10.77.0.1 app.test
          10.77.0.1 sso.app.test
          SSL_CERT_FILE=/own.pem
          CURL_CA_BUNDLE=/run/assay/ca.pem
          REQUESTS_CA_BUNDLE=/run/assay/ca.pem
          NODE_EXTRA_CA_CERTS=/run/assay/ca.pem
        worker: 1 config
          10.77.0.1 app.test
          10.77.0.1 sso.app.test
          SSL_CERT_FILE=/run/assay/ca.pem
          CURL_CA_BUNDLE=/run/assay/ca.pem
          REQUESTS_CA_BUNDLE=/run/assay/ca.pem
          NODE_EXTRA_CA_CERTS=/run/assay/ca.pem
        ");
    }
}
