//! What firmware fetches over plain HTTP: boot scripts and the live image. Nothing else is here.
//!
//! Each fetch of a script by a machine with an open run mints a one-time token and voids the last.
//! The provisioning network is trusted on first contact; from then on the agent pins our certificate.

use assay_engine::agents::Boot;
use assay_model::Mac;
use assay_netboot::script::{
    BootScript, Initrd, MemtestScript, boot_script, local_boot_script, memtest_script,
};
use axum::Router;
use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::header::{CONTENT_LENGTH, CONTENT_TYPE, HOST};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use tokio_util::io::ReaderStream;
use tracing::warn;

use crate::error::ApiError;
use crate::memtest;
use crate::state::App;

pub(crate) fn routes() -> Router<App> {
    Router::new()
        .route("/boot/{script}", get(script))
        .route("/boot/image/{name}", get(image))
        .route("/boot/memtest/{name}", get(memtest_file))
}

async fn script(
    State(app): State<App>,
    Path(name): Path<String>,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let mac: Mac = name
        .strip_suffix(".ipxe")
        .and_then(|mac| mac.parse().ok())
        .ok_or_else(|| ApiError::not_found("boot script like that; expected /boot/<mac>.ipxe"))?;
    let text = match app.engine.boot(mac).await? {
        Boot::Local { reason } | Boot::Medium { reason } => local_boot_script(&reason),
        Boot::Memtest { console } => match memory_test(&headers, console) {
            Ok(script) => script,
            Err(why) => {
                warn!(mac = %mac, "cannot boot memtest86+ on a machine: {why}");
                local_boot_script("memtest86+ cannot be booted; see the server's log")
            }
        },
        Boot::Live { token, number } => match live(&app, &headers, &token, number) {
            Ok(script) => script,
            Err(why) => {
                warn!(mac = %mac, "cannot boot a registered machine: {why}");
                local_boot_script("the live image is not ready; see the server's log")
            }
        },
    };
    Ok(([(CONTENT_TYPE, "text/plain; charset=utf-8")], text).into_response())
}

/// The machine reached us under the name in its `Host` header, so it will again.
fn host_of(headers: &HeaderMap) -> Result<&str, String> {
    headers
        .get(HOST)
        .and_then(|h| h.to_str().ok())
        .filter(|h| h.bytes().all(|b| b.is_ascii_alphanumeric() || b".:-[]".contains(&b)))
        .ok_or_else(|| "the request names no host".to_owned())
}

fn memory_test(headers: &HeaderMap, console: Option<String>) -> Result<String, String> {
    memtest::problem().map_or(Ok(()), Err)?;
    let host = host_of(headers)?;
    let url = |file: &str| format!("http://{host}/boot/memtest/{file}");
    let script = MemtestScript {
        bios_url: url(memtest::BIOS),
        uefi_url: url(memtest::UEFI),
        console: console.unwrap_or_else(|| memtest::SERIAL.to_owned()),
    };
    memtest_script(&script).map_err(|e| e.to_string())
}

async fn memtest_file(Path(name): Path<String>) -> Result<Response, ApiError> {
    let path = memtest::path(&name).ok_or_else(|| ApiError::not_found("such file"))?;
    send(&path).await
}

fn live(app: &App, headers: &HeaderMap, token: &str, number: i64) -> Result<String, String> {
    let host = host_of(headers)?;
    let name = host.rsplit_once(':').map_or(host, |(name, _)| name);
    let (kernel, initrds) = app.shared.image.boot_files().map_err(str::to_owned)?;
    let url = |file: &str| format!("http://{host}/boot/image/{file}");
    let word = |key: &str, value: String| (key.to_owned(), Some(value));
    let script = BootScript {
        kernel_url: url(kernel),
        initrds: initrds.into_iter().map(|file| Initrd { name: file.to_owned(), url: url(file) }).collect(),
        cmdline: vec![
            word("console", "tty0".into()),
            word("console", "ttyS0,115200".into()),
            word("panic", "30".into()),
            word("assay.url", format!("https://{name}:{}", app.shared.agent_port)),
            word("assay.fp", format!("sha256:{}", app.shared.fingerprint)),
            word("assay.run", number.to_string()),
            word("assay.token", token.to_owned()),
        ],
    };
    boot_script(&script).map_err(|e| e.to_string())
}

async fn image(State(app): State<App>, Path(name): Path<String>) -> Result<Response, ApiError> {
    let path = app.shared.image.path(&name).ok_or_else(|| ApiError::not_found("such file"))?;
    send(&path).await
}

async fn send(path: &std::path::Path) -> Result<Response, ApiError> {
    let gone = |e: std::io::Error| {
        let message = format!("{}: {e}", path.display());
        ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, "image", message)
    };
    let file = tokio::fs::File::open(path).await.map_err(gone)?;
    let length = file.metadata().await.map_err(gone)?.len();
    let body = Body::from_stream(ReaderStream::with_capacity(file, 256 << 10));
    Ok(([(CONTENT_LENGTH, length)], body).into_response())
}
