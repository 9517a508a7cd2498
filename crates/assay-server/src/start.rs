//! Starting and stopping: opens everything, binds the ports, says clearly what is in the way.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use assay_artifacts::{ArtifactError, Artifacts};
use assay_engine::again::Scheduler;
use assay_engine::clock::SystemClock;
use assay_engine::{Engine, Tuning, dispatcher};
use assay_model::Clock;
use assay_report::SigningKey;
use assay_store::{Role, Store, StoreError};
use axum::Router;
use axum::extract::Request;
use axum::http::HeaderValue;
use axum::http::header::{CACHE_CONTROL, CONTENT_SECURITY_POLICY, REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS};
use axum_server::Handle;
use axum_server::tls_rustls::RustlsConfig;
use tower_http::set_header::SetResponseHeaderLayer;
use tower_http::trace::TraceLayer;
use tracing::{debug_span, info};

use crate::alone::{NotAlone, Place};
use crate::forges::{self, Forges, ForgesError};
use crate::guard::{ClusterTokens, ClusterTokensError, ProxmoxGuard};
use crate::live_image::LiveImage;
use crate::notify_settings::{NotifySettingsError, Sinks};
use crate::outbox::Outbox;
use crate::sealer::ReportSealer;
use crate::secret_file::write_secret;
use crate::state::{App, Shared};
use crate::tls::Identity;
use crate::{agent, api, auth, badge, boot, pages, runner, shell};

/// How long open requests may take when the server is told to stop.
const GRACE: Duration = Duration::from_secs(2);

/// The file in the data folder with the tokens that clusters are asked with about their members.
const CLUSTER_TOKENS: &str = "cluster-tokens";

/// How the control plane is to be run.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Where everything is kept.
    pub data_dir: PathBuf,
    /// `sqlite://…` or `postgres://…`; SQLite in the data folder without one.
    pub database: Option<String>,
    /// For operators and runners.
    pub listen: SocketAddr,
    /// For firmware: boot scripts and the live image, plain HTTP.
    pub boot_listen: SocketAddr,
    /// For agents, TLS.
    pub agent_listen: SocketAddr,
    /// The port under which agents reach us on the provisioning network.
    pub agent_port: u16,
    /// The folder with the live image.
    pub live_image: PathBuf,
    /// Who is told what happens: a settings file. Without one, `notify.toml` in the data folder, if there is one.
    pub notify: Option<PathBuf>,
    /// More receivers: JSON by POST, everything, unsigned.
    pub webhooks: Vec<String>,
    /// Whether `webhooks` may be internal addresses.
    pub webhook_internal: bool,
    /// Whether everybody may see badges, without signing in.
    pub public_badges: bool,
    /// Sets the first operator's password at first start.
    pub password: Option<String>,
    /// Time limits; the documented ones unless a test says otherwise.
    pub tuning: Tuning,
}

/// Why the control plane did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// Somebody else listens there.
    #[error("{what}: cannot listen on {addr}: {why}")]
    Listen {
        /// Which listener.
        what: &'static str,
        /// Where.
        addr: SocketAddr,
        /// The reason and what to do.
        why: String,
    },
    /// Another server uses the data folder.
    #[error("{} is in use by another `assay serve`; stop that one or name another folder with --data", .0.display())]
    Locked(PathBuf),
    /// A file or folder could not be used.
    #[error("{}: {source}", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The database.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The artifact store.
    #[error(transparent)]
    Artifacts(#[from] ArtifactError),
    /// The signing key.
    #[error(transparent)]
    Key(#[from] assay_report::key::KeyError),
    /// Who is told what happens.
    #[error(transparent)]
    Notify(#[from] NotifySettingsError),
    /// Who asks from pull requests.
    #[error(transparent)]
    Forges(#[from] ForgesError),
    /// The clusters' tokens.
    #[error(transparent)]
    ClusterTokens(#[from] ClusterTokensError),
    /// Another control plane has the database.
    #[error(
        "another control plane works on this database; stop that one, or wait a minute if it has died, or name another \
         database"
    )]
    NotAlone,
    /// The first password.
    #[error("the first operator's password: {0}")]
    Password(String),
}

/// Where the control plane listens.
#[derive(Clone, Copy, Debug)]
pub struct Addresses {
    /// For operators and runners.
    pub operators: SocketAddr,
    /// For firmware.
    pub boot: SocketAddr,
    /// For agents.
    pub agents: SocketAddr,
}

/// A control plane that is ready to serve.
pub struct Server {
    app: App,
    listeners: [TcpListener; 3],
    tls: RustlsConfig,
    place: Place,
    /// Held as long as the server lives.
    _lock: std::fs::File,
}

impl Server {
    /// Opens the store, the keys and the ports.
    pub async fn open(settings: Settings) -> Result<Self, StartError> {
        Self::open_by(settings, Arc::new(SystemClock::default())).await
    }

    /// The same with another clock: a test's.
    pub async fn open_by(settings: Settings, clock: Arc<dyn Clock>) -> Result<Self, StartError> {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let data = &settings.data_dir;
        let file = |path: &Path| {
            let path = path.to_owned();
            move |source| StartError::File { path, source }
        };
        std::fs::create_dir_all(data).map_err(file(data))?;
        let lock = lock(data)?;
        let listeners = [
            listen("operators and runners", settings.listen)?,
            listen("boot files", settings.boot_listen)?,
            listen("agents", settings.agent_listen)?,
        ];
        let default_url = format!("sqlite://{}", data.join("assay.db").display());
        let store = Store::open(settings.database.as_deref().unwrap_or(&default_url)).await?;
        let artifacts = Artifacts::folder(data.join("artifacts"))?;
        let key_path = data.join("signing-key.pem");
        let key = Arc::new(SigningKey::load_or_create(&key_path)?);
        let tls_dir = data.join("tls");
        let identity = Identity::load_or_create(&tls_dir).map_err(file(&tls_dir))?;
        let fingerprint = identity.fingerprint();
        let tls =
            RustlsConfig::from_der(vec![identity.certificate], identity.key).await.map_err(file(&tls_dir))?;
        let sinks =
            Sinks::load(data, settings.notify.as_deref(), &settings.webhooks, settings.webhook_internal)?;
        let sealer = Arc::new(ReportSealer::new(Arc::clone(&key)));
        let engine = Engine::new(store, artifacts, clock, sealer, settings.tuning);
        let tokens = data.join(CLUSTER_TOKENS);
        let engine = if tokens.exists() {
            engine.with_guard(Arc::new(ProxmoxGuard::new(ClusterTokens::read(&tokens)?)))
        } else {
            engine
        };
        let place = Place::take(&engine, data).await.map_err(|e| match e {
            NotAlone::File(source) => StartError::File { path: data.join("server-id"), source },
            NotAlone::Store(store) => store.into(),
            NotAlone::Taken => StartError::NotAlone,
        })?;
        let shared = Shared {
            image: LiveImage::open(&settings.live_image),
            fingerprint,
            agent_port: settings.agent_port,
            setup_code: tokio::sync::RwLock::new(None),
            key,
            sinks: Arc::new(sinks),
            forges: Forges::load(data, &place.short_name())?,
            attempts: auth::Attempts::default(),
            shells: shell::Shells::new(data),
            data_dir: settings.data_dir.clone(),
            public_badges: settings.public_badges,
        };
        let app = App { engine, shared: Arc::new(shared) };
        first_start(&app, settings.password.as_deref()).await?;
        local_tokens(&app, data).await?;
        shell::recover(&app).await;
        Ok(Self { app, listeners, tls, place, _lock: lock })
    }

    /// Where it listens; the ports are known even when the system chose them.
    pub fn addresses(&self) -> io::Result<Addresses> {
        let [operators, boot, agents] = &self.listeners;
        Ok(Addresses {
            operators: operators.local_addr()?,
            boot: boot.local_addr()?,
            agents: agents.local_addr()?,
        })
    }

    /// The shared state, for programs that embed the server.
    pub const fn app(&self) -> &App {
        &self.app
    }

    /// The code that lets someone set the first password; none once there is an operator.
    pub async fn setup_code(&self) -> Option<String> {
        self.app.shared.setup_code.read().await.clone()
    }

    /// Why machines cannot be booted, if so.
    pub fn image_problem(&self) -> Option<&str> {
        self.app.shared.image.problem()
    }

    /// Serves until `stop` resolves.
    pub async fn serve(self, stop: impl Future<Output = ()> + Send) -> io::Result<()> {
        let [operators, boot, agents] = self.listeners;
        let handle = Handle::new();
        let app = self.app;
        let dispatcher = tokio::spawn(dispatcher::run(app.engine.clone()));
        let scheduler = tokio::spawn(Scheduler::new(app.engine.clone()).run());
        let outbox = Outbox::start(&app.engine, &app.shared.sinks);
        let working = forges::Working::start(&app);
        let serving = async {
            tokio::try_join!(
                axum_server::from_tcp(operators)?
                    .handle(handle.clone())
                    .serve(operator_routes(&app).into_make_service()),
                axum_server::from_tcp(boot)?
                    .handle(handle.clone())
                    .serve(boot::routes().with_state(app.clone()).into_make_service()),
                axum_server::from_tcp_rustls(agents, self.tls)?
                    .handle(handle.clone())
                    .serve(machine_routes(&app).into_make_service()),
            )
        };
        let ended = tokio::select! {
            ended = serving => ended.map(drop),
            () = self.place.keep(&app.engine) => Err(io::Error::other(
                "another control plane has taken this database while this one was away; nothing more is done here",
            )),
            () = async { stop.await; handle.graceful_shutdown(Some(GRACE)); std::future::pending().await } => Ok(()),
        };
        dispatcher.abort();
        scheduler.abort();
        tokio::join!(outbox.stop(GRACE), working.stop(GRACE));
        info!("stopped");
        ended
    }
}

/// Everything for people and runners; strict about what a page may load.
fn operator_routes(app: &App) -> Router {
    let header = |name, value: &'static str| {
        SetResponseHeaderLayer::if_not_present(name, HeaderValue::from_static(value))
    };
    let guarded = pages::routes()
        .merge(api::routes())
        .layer(axum::middleware::from_fn_with_state(app.clone(), auth::guard));
    guarded
        .merge(runner::routes())
        .merge(forges::routes())
        .merge(pages::open_routes())
        .merge(badge::routes())
        .layer(header(CONTENT_SECURITY_POLICY, "default-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; frame-ancestors 'none'; form-action 'self'; base-uri 'none'"))
        .layer(header(X_CONTENT_TYPE_OPTIONS, "nosniff"))
        .layer(header(REFERRER_POLICY, "no-referrer"))
        .layer(header(CACHE_CONTROL, "no-store"))
        // Without the query: the feed's address has its secret there.
        .layer(TraceLayer::new_for_http().make_span_with(|request: &Request| {
            debug_span!("request", method = %request.method(), path = request.uri().path())
        }))
        .with_state(app.clone())
}

/// What machines and remote runners reach over TLS.
fn machine_routes(app: &App) -> Router {
    agent::routes().merge(runner::routes()).layer(TraceLayer::new_for_http()).with_state(app.clone())
}

/// Until an operator exists, a code from the terminal lets someone set the first password.
async fn first_start(app: &App, password: Option<&str>) -> Result<(), StartError> {
    if !app.engine.store().operators().await?.is_empty() {
        return Ok(());
    }
    if let Some(password) = password {
        return auth::set_password(app, "operator", password)
            .await
            .map_err(|e| StartError::Password(e.message().to_owned()));
    }
    *app.shared.setup_code.write().await = Some(auth::secret()[..16].to_owned());
    Ok(())
}

/// The command line and the runner on this machine find their tokens in the data folder.
async fn local_tokens(app: &App, data: &Path) -> Result<(), StartError> {
    let keep = |path: PathBuf, token: String| {
        write_secret(&path, token.as_bytes()).map_err(|source| StartError::File { path, source })
    };
    let (cli, runner) = (data.join("cli.token"), data.join("runner.token"));
    if !cli.exists() {
        keep(cli, auth::mint_token(app, "cli", Role::Admin).await?)?;
    }
    if !runner.exists() {
        keep(runner, auth::mint_join_token(app).await?)?;
    }
    Ok(())
}

fn lock(data: &Path) -> Result<std::fs::File, StartError> {
    let path = data.join("lock");
    let file = std::fs::File::create(&path).map_err(|source| StartError::File { path, source })?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(std::fs::TryLockError::WouldBlock) => Err(StartError::Locked(data.to_owned())),
        Err(std::fs::TryLockError::Error(source)) => {
            Err(StartError::File { path: data.join("lock"), source })
        }
    }
}

fn listen(what: &'static str, addr: SocketAddr) -> Result<TcpListener, StartError> {
    let fail = |e: &io::Error| {
        let why = match e.kind() {
            io::ErrorKind::AddrInUse => {
                "another program listens there already; stop it or choose another port".to_owned()
            }
            io::ErrorKind::PermissionDenied => {
                "ports below 1024 need privileges that the control plane does not have; choose a higher one"
                    .to_owned()
            }
            _ => e.to_string(),
        };
        StartError::Listen { what, addr, why }
    };
    let listener = TcpListener::bind(addr).map_err(|e| fail(&e))?;
    listener.set_nonblocking(true).map_err(|e| fail(&e))?;
    Ok(listener)
}
