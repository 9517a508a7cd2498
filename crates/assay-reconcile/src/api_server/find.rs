//! Where `kube-apiserver` and `etcd` are looked for.

use std::{
    ffi::OsString,
    path::{Path, PathBuf},
};

use assay_process::find_program;

use super::ApiServerError;

/// Names the API server's program.
const SERVER_VARIABLE: &str = "ASSAY_KUBE_APISERVER";
/// Names etcd's program.
const ETCD_VARIABLE: &str = "ASSAY_ETCD";

/// The two programs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApiServerFiles {
    /// `kube-apiserver`, 1.20 or later.
    pub apiserver: PathBuf,
    /// `etcd`, 3.4 or later.
    pub etcd: PathBuf,
}

impl ApiServerFiles {
    /// Looks for `kube-apiserver` in `$ASSAY_KUBE_APISERVER`, then in the cache that
    /// `examples/images/kube-apiserver/build` fills (`$XDG_CACHE_HOME/assay/kube-apiserver`, by default
    /// `~/.cache/assay/kube-apiserver`), then on PATH; and for `etcd` in `$ASSAY_ETCD`, then on PATH.
    ///
    /// # Errors
    /// [`ApiServerError::Missing`], which says what to do. A variable that names no program is an error as well: going
    /// on with another program than the one that was asked for would be worse.
    pub fn find() -> Result<Self, ApiServerError> {
        let variable = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty());
        Self::find_with(variable, |program| find_program(program).ok())
    }

    fn find_with(
        variable: impl Fn(&str) -> Option<OsString>,
        on_path: impl Fn(&str) -> Option<PathBuf>,
    ) -> Result<Self, ApiServerError> {
        Ok(Self {
            apiserver: named(&variable, SERVER_VARIABLE, "kube-apiserver")?
                .or_else(|| cached(&variable))
                .or_else(|| on_path("kube-apiserver"))
                .ok_or_else(|| ApiServerError::Missing {
                    program: "kube-apiserver",
                    hint: format!(
                        "build it once with examples/images/kube-apiserver/build (about 6 minutes), or name one in {SERVER_VARIABLE}"
                    ),
                })?,
            etcd: named(&variable, ETCD_VARIABLE, "etcd")?.or_else(|| on_path("etcd")).ok_or_else(|| {
                ApiServerError::Missing {
                    program: "etcd",
                    hint: format!(
                        "install it with `apt-get install --no-install-recommends etcd-server`, or name one in {ETCD_VARIABLE}"
                    ),
                }
            })?,
        })
    }
}

fn named(
    variable: &impl Fn(&str) -> Option<OsString>,
    name: &str,
    program: &'static str,
) -> Result<Option<PathBuf>, ApiServerError> {
    let Some(path) = variable(name).map(PathBuf::from) else { return Ok(None) };
    if is_program(&path) {
        return Ok(Some(path));
    }
    Err(ApiServerError::Missing {
        program,
        hint: format!("{name} is {}, which is no program; correct or unset it", path.display()),
    })
}

fn cached(variable: &impl Fn(&str) -> Option<OsString>) -> Option<PathBuf> {
    let caches = variable("XDG_CACHE_HOME")
        .map(PathBuf::from)
        .or_else(|| Some(PathBuf::from(variable("HOME")?).join(".cache")))?;
    Some(caches.join("assay/kube-apiserver/kube-apiserver")).filter(|path| is_program(path))
}

fn is_program(path: &Path) -> bool {
    path.is_absolute() && find_program(path).is_ok()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::ApiServerFiles;

    fn program(path: &std::path::Path) -> std::path::PathBuf {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, "").unwrap();
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).unwrap();
        path.to_owned()
    }

    #[test]
    fn a_named_program_goes_before_the_cache() {
        let folder = tempfile::tempdir().unwrap();
        let etcd = program(&folder.path().join("etcd"));
        let cached = program(&folder.path().join(".cache/assay/kube-apiserver/kube-apiserver"));
        let own = program(&folder.path().join("own"));
        let find = |named: Option<&std::path::Path>| {
            let variable = |name: &str| match name {
                "HOME" => Some(folder.path().into()),
                "ASSAY_KUBE_APISERVER" => named.map(Into::into),
                _ => None,
            };
            ApiServerFiles::find_with(variable, |program| (program == "etcd").then(|| etcd.clone()))
        };
        assert_eq!(find(None).unwrap(), ApiServerFiles { apiserver: cached, etcd: etcd.clone() });
        assert_eq!(find(Some(&own)).unwrap().apiserver, own);
        let error = find(Some(&folder.path().join("gone"))).unwrap_err().to_string();
        assert!(
            error.contains("ASSAY_KUBE_APISERVER is") && error.contains("correct or unset it"),
            "{error}"
        );
    }

    #[test]
    fn what_is_missing_is_said_with_a_remedy() {
        let nowhere = |_: &str| None;
        let error = ApiServerFiles::find_with(nowhere, |_| None).unwrap_err().to_string();
        assert!(error.contains("examples/images/kube-apiserver/build"), "{error}");
        let error = ApiServerFiles::find_with(nowhere, |program| (program != "etcd").then(|| "/x".into()))
            .unwrap_err();
        assert!(error.to_string().contains("apt-get install"), "{error}");
    }
}
