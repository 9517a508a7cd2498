//! Collects `Reconcile`: has the tree, with the machine in it and without it again, applied to a Kubernetes API server,
//! and looks at what came of it.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

use assay_reconcile::{
    ApiServer, Application, Difference, Expectation, Expected, LiveApplication, Operation, Reconciler,
    Refresh, Rules, Tracking, Tree, compare, connect, define, objects, pruned_fields, version,
};
use assay_standin::StandIn;
use futures::FutureExt as _;
use serde_json::Value;

use super::{Brought, Test, brought};
use crate::image::evidence::{ReconcileLook, ReconcilePass, Reconciled};
use crate::image::profile::{Cluster, ReconcileSpec};
use crate::image::reconcile::{pattern, rules};

/// The most files of a tree that are read, and the largest of them, in bytes.
const MAX_FILES: usize = 2_000;
const MAX_FILE: u64 = 1 << 20;
/// Bytes of manifests that are kept as evidence, of one commit.
const MAX_KEPT: usize = 4 << 20;

/// The commits that a registration went through.
#[derive(Clone, Debug)]
pub(super) struct Revisions {
    /// The machine's name, as the place of its registration has it.
    pub(super) host: String,
    /// With the machine in the tree.
    pub(super) merged: String,
    /// Without it again, where it came that far.
    pub(super) removed: Option<String>,
}

/// What is asked of a cluster, at each commit.
struct Question<'a> {
    spec: &'a ReconcileSpec,
    application: &'a Application,
    pattern: String,
    rules: Rules,
    /// `apiVersion` and `kind` of what registrations are.
    kinds: BTreeSet<(String, String)>,
}

impl Question<'_> {
    fn kinds(&self) -> Vec<(&str, &str)> {
        self.kinds.iter().map(|(version, kind)| (version.as_str(), kind.as_str())).collect()
    }

    fn expected(&self, tree: &Tree) -> Option<Expected> {
        Expected::render(tree, &self.pattern, &self.application.destination).ok()
    }
}

impl Test {
    pub(super) async fn reconcile(&mut self, progress: &(dyn Fn(&str) + Sync)) -> Result<Brought, String> {
        let (Some(spec), Some(join)) = (self.profile().reconcile.clone(), self.profile().join.clone()) else {
            return Ok(Brought::default());
        };
        let yaml = self.text(&spec.application)?;
        let application =
            Application::from_yaml(&yaml).map_err(|error| format!("{}: {error}", spec.application))?;
        let mut out = Reconciled { namespace: application.destination.clone(), ..Reconciled::default() };
        let Some(revisions) = self.revisions.clone() else {
            out.absent = Some("nothing was registered that could be merged".to_owned());
            return brought(&out, Vec::new());
        };
        out.host.clone_from(&revisions.host);
        let Some(standin) = &self.standin else { return Err("there is no control plane".to_owned()) };
        let mut trees =
            vec![(revisions.merged.clone(), tree(standin, &revisions.merged, &application).await?)];
        if let Some(removed) = &revisions.removed {
            trees.push((removed.clone(), tree(standin, removed, &application).await?));
        }
        let mut question = Question {
            spec: &spec,
            application: &application,
            pattern: pattern(&join.path),
            rules: rules(&spec),
            kinds: BTreeSet::new(),
        };
        let expected: Vec<Expected> = trees.iter().filter_map(|(_, tree)| question.expected(tree)).collect();
        question.kinds = expected.iter().flat_map(|expected| &expected.objects).map(kind).collect();
        match spec.on {
            Cluster::Isolated => self.isolated(&question, &trees, &mut out, progress).await?,
            Cluster::Live => self.live(&question, &trees, &mut out, progress).await?,
        }
        brought(&out, Vec::new())
    }

    async fn isolated(
        &self,
        question: &Question<'_>,
        trees: &[(String, Tree)],
        out: &mut Reconciled,
        progress: &(dyn Fn(&str) + Sync),
    ) -> Result<(), String> {
        let files = match ApiServer::find() {
            Ok(files) => files,
            Err(missing) => {
                out.absent = Some(missing.to_string());
                return Ok(());
            }
        };
        let mut definitions = Tree::new();
        for name in &question.spec.definitions {
            definitions.insert(name.clone(), self.text(name)?.into_bytes());
        }
        progress("starting a Kubernetes API server");
        let folder = tempfile::Builder::new().prefix("api-server-").tempdir_in(self.folder.path());
        let folder = folder.map_err(|error| format!("a folder for the API server: {error}"))?;
        let server = ApiServer::start(&files, folder.path()).await.map_err(|error| error.to_string())?;
        let asked = self.applied(&server, &definitions, question, trees, out, progress).await;
        let stopped = server.stop().await.map_err(|error| error.to_string());
        asked.and(stopped)
    }

    /// Has each commit applied by the rules of Argo CD.
    async fn applied(
        &self,
        server: &ApiServer,
        definitions: &Tree,
        question: &Question<'_>,
        trees: &[(String, Tree)],
        out: &mut Reconciled,
        progress: &(dyn Fn(&str) + Sync),
    ) -> Result<(), String> {
        let client = server.client();
        let clock = &self.settings.clock;
        out.server = format!("kube-apiserver {} of the runner's own", server.version().await.map_err(words)?);
        if !definitions.is_empty() {
            define(client.clone(), definitions, clock.clone()).await.map_err(words)?;
        }
        let mut reconciler = Reconciler::new(
            client.clone(),
            question.application.clone(),
            Tracking::Annotation,
            clock.clone(),
        );
        for (number, (revision, tree)) in trees.iter().enumerate() {
            progress(doing(number));
            let began = Instant::now();
            let mut looks = Vec::new();
            for _ in 0..2 {
                reconciler.reconcile(revision, tree).await.map_err(words)?;
                let live = objects(&client, &question.kinds(), &out.namespace).await.map_err(words)?;
                looks.push(ReconcileLook { application: reconciler.application(), objects: live });
            }
            let dropped = match question.expected(tree) {
                Some(expected) => named(&pruned_fields(&client, &expected).await.map_err(words)?),
                None => Vec::new(),
            };
            out.passes.push(pass(revision, tree, looks, dropped, began));
        }
        Ok(())
    }

    /// Shows each commit to an Argo CD, and waits for what it makes of it.
    async fn live(
        &self,
        question: &Question<'_>,
        trees: &[(String, Tree)],
        out: &mut Reconciled,
        progress: &(dyn Fn(&str) + Sync),
    ) -> Result<(), String> {
        let Some(standin) = &self.standin else { return Err("there is no control plane".to_owned()) };
        let kubeconfig = question.spec.kubeconfig.as_ref().map(|name| self.spec.folder.join(name));
        let client = match connect(kubeconfig.as_deref()).await {
            Ok(client) => client,
            Err(why) => {
                out.absent = Some(why);
                return Ok(());
            }
        };
        let Application { name, namespace, .. } = question.application;
        out.server = format!("{} with Argo CD, {namespace}/{name}", version(&client).await.map_err(words)?);
        let argo = LiveApplication::new(client.clone(), namespace, name);
        let within = question.spec.within.0;
        for (number, (revision, tree)) in trees.iter().enumerate() {
            progress(doing(number));
            let began = Instant::now();
            standin.move_to(revision).await.map_err(words)?;
            argo.refresh(Refresh::Hard).await.map_err(words)?;
            let expected = question.expected(tree);
            let expectation = Expectation { revision: revision.clone(), operation: Operation::OfRevision };
            let kinds = question.kinds();
            let (client, namespace, expected) = (&client, out.namespace.as_str(), expected.as_ref());
            let kinds = &kinds;
            let look = || {
                async move {
                    let live = objects(client, kinds, namespace).await?;
                    let differences = expected.map(|e| compare(e, &live, &question.rules));
                    Ok((differences.unwrap_or_default(), live))
                }
                .boxed()
            };
            let waited = argo.wait(&expectation, within, look).await.map_err(words)?;
            let look = |(seen, objects): (assay_reconcile::Observation, Vec<Value>)| ReconcileLook {
                application: seen.application,
                objects,
            };
            let looks = waited.looks.into_iter().map(look).collect();
            out.passes.push(pass(revision, tree, looks, Vec::new(), began));
        }
        Ok(())
    }

    /// A file that the profile names.
    fn text(&self, name: &str) -> Result<String, String> {
        let path = self.spec.folder.join(name);
        std::fs::read_to_string(&path).map_err(|error| format!("{}: {error}", path.display()))
    }
}

/// `apiVersion` and `kind`.
fn kind(object: &Value) -> (String, String) {
    let word = |name: &str| object[name].as_str().unwrap_or_default().to_owned();
    (word("apiVersion"), word("kind"))
}

const fn doing(number: usize) -> &'static str {
    if number == 0 { "having the registration applied" } else { "having its removal applied" }
}

/// The files of a commit below the Application's path.
async fn tree(standin: &StandIn, revision: &str, application: &Application) -> Result<Tree, String> {
    let files = standin.files(revision, &application.source.path).await.map_err(words)?;
    if files.len() > MAX_FILES {
        return Err(format!(
            "{} files are below {} in the tree; {MAX_FILES} are read",
            files.len(),
            application.source.path
        ));
    }
    let mut tree = Tree::new();
    for file in files.into_iter().filter(|file| file.size.is_some_and(|bytes| bytes <= MAX_FILE)) {
        if let Some(content) = standin.read(revision, &file.path).await.map_err(words)? {
            tree.insert(file.path, content);
        }
    }
    Ok(tree)
}

fn pass(
    revision: &str,
    tree: &Tree,
    looks: Vec<ReconcileLook>,
    dropped: Vec<String>,
    began: Instant,
) -> ReconcilePass {
    let mut room = MAX_KEPT;
    let manifests = tree
        .iter()
        .filter(|(path, _)| [".yaml", ".yml", ".json"].iter().any(|ending| path.ends_with(ending)));
    let files: BTreeMap<String, String> = manifests
        .map_while(|(path, content)| {
            room = room.checked_sub(content.len())?;
            Some((path.clone(), String::from_utf8_lossy(content).into_owned()))
        })
        .collect();
    ReconcilePass {
        revision: revision.to_owned(),
        files,
        looks,
        dropped,
        seconds: began.elapsed().as_secs_f64(),
    }
}

fn named(differences: &[Difference]) -> Vec<String> {
    differences.iter().map(|one| format!("{} {}", one.object, one.pointer)).collect()
}

fn words(error: impl std::fmt::Display) -> String {
    error.to_string()
}
