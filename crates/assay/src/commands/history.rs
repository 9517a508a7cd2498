//! What recipes and images share where they show how earlier runs came out: what is asked for, its address, a verdict in words.

use anyhow::{Context as _, Result};
use assay_api::operator::RunSummary;
use clap::Args;
use serde::de::DeserializeOwned;

use super::{Remote, run};

/// Which history.
#[derive(Args)]
pub(crate) struct Asked {
    /// Its name, as `list` shows it.
    pub(crate) name: String,
    /// Only runs before this one.
    #[arg(long, value_name = "RUN")]
    before: Option<i64>,
    /// At most so many runs.
    #[arg(long, value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=200))]
    limit: u32,
    #[command(flatten)]
    pub(crate) remote: Remote,
}

impl Asked {
    /// Asks for it; `kind` is what the API calls all of them.
    pub(crate) async fn history<T: DeserializeOwned>(&self, kind: &str) -> Result<T> {
        let before = self.before.map_or_else(String::new, |before| format!("&before={before}"));
        let path = format!("/api/v1/{kind}/{}?limit={}{before}", segment(&self.name)?, self.limit);
        self.remote.client()?.get(&path).await
    }
}

/// In words; a pass of a part is not a pass of the whole.
pub(crate) fn verdict(run: &RunSummary, reservations: &[(bool, &str)]) -> String {
    let mut words = run::verdict_words(run);
    if run.result.is_some() {
        for (_, word) in reservations.iter().filter(|(holds, _)| *holds) {
            words += ", ";
            words += word;
        }
    }
    words
}

/// How long a run took.
pub(crate) fn took(seconds: Option<f64>) -> String {
    seconds.map(|seconds| format!("{seconds:.0} s")).unwrap_or_default()
}

/// A name may hold anything: it is one segment of the address.
pub(crate) fn segment(name: &str) -> Result<String> {
    let mut url = reqwest::Url::parse("http://x/").context("an address")?;
    url.path_segments_mut().ok().context("an address has a path")?.push(name);
    Ok(url.path().trim_start_matches('/').to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_one_segment_of_an_address() {
        let segment = |name| segment(name).expect("it can be written");
        assert_eq!(segment("my-installer"), "my-installer");
        assert_eq!(segment("x[firmware=uefi]"), "x[firmware=uefi]");
        assert_eq!(segment("a/b?c#d e%"), "a%2Fb%3Fc%23d%20e%25");
    }
}
