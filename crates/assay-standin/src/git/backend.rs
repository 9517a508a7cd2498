//! Serving Git: a request becomes one run of `git http-backend` (CGI), the real server side.
//!
//! Bodies go through files in the private folder, in both directions: `assay_process` hands a child its input at once, and
//! a push may be large. So a slow client holds a file and no process, and a process never waits for a client.

use std::path::Path;

use assay_process::Cmd;
use tempfile::NamedTempFile;
use tokio::{
    fs::File,
    io::{AsyncReadExt as _, AsyncSeekExt as _},
};

use super::{Repository, done, odd};
use crate::{StandInError, route::Service};

/// The most that the headers of `git http-backend` may take.
const MOST_HEADERS: usize = 16 * 1024;

/// A request for the backend.
#[derive(Debug)]
pub(crate) struct Call {
    pub(crate) service: Service,
    /// Its body, in a file; `None` where refs are asked for.
    pub(crate) body: Option<NamedTempFile>,
    pub(crate) content_type: String,
    /// Whether the body is compressed: Git compresses what it wants to fetch.
    pub(crate) gzip: bool,
    /// The version of the protocol that the client asks for: 0, 1 or 2.
    pub(crate) protocol: Option<u8>,
    /// Who asks, for the reflog.
    pub(crate) user: String,
}

/// The backend's answer.
#[derive(Debug)]
pub(crate) struct Served {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(String, String)>,
    /// Stands at the beginning of the body.
    pub(crate) body: File,
    pub(crate) len: u64,
}

impl Call {
    pub(crate) fn probe() -> Self {
        Self {
            service: Service::UploadPack,
            body: None,
            content_type: String::new(),
            gzip: false,
            protocol: Some(2),
            user: String::new(),
        }
    }

    /// Which protocol a `Git-Protocol` header asks for; anything else in it is left out.
    pub(crate) fn protocol_of(header: &str) -> Option<u8> {
        header.split(':').find_map(|word| match word.strip_prefix("version=")? {
            "0" => Some(0),
            "1" => Some(1),
            "2" => Some(2),
            _ => None,
        })
    }
}

impl Repository {
    /// A file for a body, in the private folder.
    pub(crate) fn spool(&self) -> Result<NamedTempFile, StandInError> {
        let spool = self.folder.join("spool");
        NamedTempFile::new_in(&spool).map_err(|source| StandInError::Folder { folder: spool, source })
    }

    /// Runs the backend. Waits for a free place first.
    pub(crate) async fn serve(&self, call: &Call) -> Result<Served, StandInError> {
        let doing = "running `git http-backend`";
        let _place = self.processes.acquire().await.map_err(|_| StandInError::Stopped)?;
        let answer = self.spool()?;
        let ran = done(doing, self.command(call, answer.path()).run().await)?;
        if !ran.success() {
            // It says what is wrong with the request in its answer and ends with 0; this is its own trouble.
            tracing::warn!(said = ran.last_words(), "`git http-backend` failed");
            return Err(odd(doing, ran.last_words().as_bytes()));
        }
        let failed = |source| StandInError::Folder { folder: self.folder.clone(), source };
        // The name goes with `answer`; the open file stays.
        let mut body = File::open(answer.path()).await.map_err(failed)?;
        let total = body.metadata().await.map_err(failed)?.len();
        let mut head = Vec::new();
        (&mut body).take(MOST_HEADERS as u64).read_to_end(&mut head).await.map_err(failed)?;
        let CgiHead { status, headers, start } = cgi_head(&head).ok_or_else(|| odd(doing, &head))?;
        body.seek(std::io::SeekFrom::Start(start)).await.map_err(failed)?;
        Ok(Served { status, headers, body, len: total - start })
    }

    fn command(&self, call: &Call, answer: &Path) -> Cmd {
        let service = call.service.name();
        let (method, path, query) = match call.body {
            None => ("GET", "/repository.git/info/refs".to_owned(), format!("service={service}")),
            Some(_) => ("POST", format!("/repository.git/{service}"), String::new()),
        };
        let (input, length) = match &call.body {
            None => (Path::new("/dev/null"), 0),
            Some(file) => (file.path(), file.as_file().metadata().map_or(0, |meta| meta.len())),
        };
        // The shell only connects the files.
        let mut cmd = self
            .environment(Cmd::new("sh"))
            .args(["-c", r#"exec git http-backend <"$1" >"$2""#, "sh"])
            .arg(input.as_os_str())
            .arg(answer.as_os_str())
            .timeout(self.limits.request_time())
            .max_output(64 * 1024)
            .env("GATEWAY_INTERFACE", "CGI/1.1")
            .env("SERVER_PROTOCOL", "HTTP/1.1")
            .env("GIT_PROJECT_ROOT", &self.folder)
            .env("GIT_HTTP_EXPORT_ALL", "1")
            .env("PATH_INFO", path)
            .env("QUERY_STRING", query)
            .env("REQUEST_METHOD", method)
            .env("CONTENT_TYPE", &call.content_type)
            .env("CONTENT_LENGTH", length.to_string())
            .env("REMOTE_USER", &call.user)
            .env("STANDIN_DEFAULT", format!("refs/heads/{}", self.default_branch))
            .env("STANDIN_MAY_DEFAULT", self.policy.default_branch.to_string())
            .env("STANDIN_MAY_EXISTING", self.policy.existing.to_string());
        if call.gzip {
            cmd = cmd.env("HTTP_CONTENT_ENCODING", "gzip");
        }
        if let Some(version) = call.protocol {
            cmd = cmd.env("GIT_PROTOCOL", format!("version={version}"));
        }
        cmd
    }
}

/// What the backend says before the body.
#[derive(Debug, PartialEq, Eq)]
struct CgiHead {
    status: u16,
    headers: Vec<(String, String)>,
    /// Where the body begins.
    start: u64,
}

fn cgi_head(bytes: &[u8]) -> Option<CgiHead> {
    let end = bytes.windows(4).position(|window| window == b"\r\n\r\n")?;
    let text = std::str::from_utf8(&bytes[..end]).ok()?;
    let mut status = 200;
    let mut headers = Vec::new();
    for line in text.split("\r\n") {
        let (name, value) = line.split_once(':')?;
        let value = value.trim();
        if name.eq_ignore_ascii_case("status") {
            status = value.split(' ').next()?.parse().ok()?;
        } else {
            headers.push((name.to_ascii_lowercase(), value.to_owned()));
        }
    }
    Some(CgiHead { status, headers, start: end as u64 + 4 })
}

#[cfg(test)]
mod tests {
    use super::{Call, CgiHead, cgi_head};

    #[test]
    fn the_backends_headers_are_told_from_its_body() {
        let said = b"Status: 404 Not Found\r\nExpires: Fri, 01 Jan 1980 00:00:00 GMT\r\n\r\nbody\r\n\r\n";
        let CgiHead { status, headers, start } = cgi_head(said).expect("headers");
        assert_eq!((status, headers.len()), (404, 1));
        assert_eq!(&said[start as usize..], b"body\r\n\r\n");
        assert_eq!(cgi_head(b"Status: 200 OK\r\n"), None);
        assert_eq!(cgi_head(b"rubbish\r\n\r\n"), None);
        assert_eq!(cgi_head(b""), None);
    }

    #[test]
    fn only_a_version_is_taken_from_what_the_client_asks_for() {
        assert_eq!(Call::protocol_of("version=2"), Some(2));
        assert_eq!(Call::protocol_of("x=y:version=1"), Some(1));
        assert_eq!(Call::protocol_of("version=2; rm -rf /"), None);
        assert_eq!(Call::protocol_of(""), None);
    }
}
