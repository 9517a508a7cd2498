//! Who is told what happens: the settings file, and the webhooks from the command line.
//!
//! Read once, at the start. A file that is wrong stops the start: a control plane that silently
//! tells nobody is worse than one that says what to correct.

use std::path::{Path, PathBuf};

use assay_notify::{Settings, SettingsError, Sink};

/// The file in the data folder.
const FILE: &str = "notify.toml";

/// Why the start stopped.
#[derive(Debug, thiserror::Error)]
pub enum NotifySettingsError {
    /// The settings file.
    #[error("notification settings: {0}")]
    File(#[from] SettingsError),
    /// An address from the command line.
    #[error("--webhook (the {number}. of those given): {why}")]
    Webhook {
        /// Which; the address itself may hold a password.
        number: usize,
        /// What is wrong with it.
        why: String,
    },
    /// Two sinks of one name.
    #[error(
        "{}: the name `{name}` belongs to --webhook; give the sink in the file another name, or leave --webhook out",
        file.display()
    )]
    Taken {
        /// The name.
        name: String,
        /// The file with the other one.
        file: PathBuf,
    },
}

/// Who is told.
#[derive(Debug)]
pub(crate) struct Sinks {
    /// The settings file, whether it exists or not.
    pub(crate) file: PathBuf,
    pub(crate) file_exists: bool,
    /// What links begin with.
    pub(crate) base_url: Option<String>,
    pub(crate) all: Vec<Sink>,
}

impl Sinks {
    /// Reads the file, which has to be there only if it was named, and adds the webhooks.
    pub(crate) fn load(
        data: &Path,
        file: Option<&Path>,
        webhooks: &[String],
        allow_internal: bool,
    ) -> Result<Self, NotifySettingsError> {
        let named = file.is_some();
        let file = file.map_or_else(|| data.join(FILE), Path::to_owned);
        let file_exists = named || file.exists();
        let Settings { base_url, sinks: mut all } =
            if file_exists { Settings::load(&file)? } else { Settings::default() };
        for (index, url) in webhooks.iter().enumerate() {
            let name = if index == 0 { "webhook".to_owned() } else { format!("webhook-{}", index + 1) };
            if all.iter().any(|sink| sink.name() == name) {
                return Err(NotifySettingsError::Taken { name, file });
            }
            let sink = Sink::webhook(&name, url, allow_internal)
                .map_err(|why| NotifySettingsError::Webhook { number: index + 1, why })?;
            all.push(sink);
        }
        Ok(Self { file, file_exists, base_url, all })
    }

    /// The names of those who want to hear of an event.
    pub(crate) fn wanting(&self, event: &str) -> Vec<&str> {
        self.all.iter().filter(|sink| sink.wants(event)).map(Sink::name).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOPIC: &str =
        "[[ntfy]]\nname = \"NAME\"\nserver = \"https://n.example\"\ntopic = \"x\"\nevents = [\"RunHeld\"]\n";

    #[test]
    fn the_file_and_the_command_line_add_up() {
        let data = tempfile::tempdir().expect("a folder");
        let urls = ["https://a.example/".to_owned(), "https://b.example/".to_owned()];
        let none = Sinks::load(data.path(), None, &[], false).expect("no file is no mistake");
        assert!(!none.file_exists && none.all.is_empty());
        std::fs::write(data.path().join(FILE), TOPIC.replace("NAME", "phone")).expect("written");
        let all = Sinks::load(data.path(), None, &urls, false).expect("valid");
        assert_eq!(all.wanting("RunHeld"), ["phone", "webhook", "webhook-2"]);
        assert_eq!(all.wanting("RunStarted"), ["webhook", "webhook-2"]);
    }

    #[test]
    fn what_is_wrong_stops_the_start() {
        let data = tempfile::tempdir().expect("a folder");
        let load = |file: Option<&Path>, urls: &[&str]| {
            let urls: Vec<_> = urls.iter().map(|url| (*url).to_owned()).collect();
            Sinks::load(data.path(), file, &urls, false).expect_err("wrong").to_string()
        };
        let missing = load(Some(&data.path().join("other.toml")), &[]);
        assert!(missing.contains("other.toml: No such file"), "{missing}");
        let bad = load(None, &["https://a.example/", "ftp://user:secret@host.example/hidden"]);
        assert!(
            bad.starts_with("--webhook (the 2. of those given): this is no web address; write http://")
                && !bad.contains("hidden")
                && !bad.contains("secret"),
            "{bad}"
        );
        std::fs::write(data.path().join(FILE), TOPIC.replace("NAME", "webhook")).expect("written");
        assert!(load(None, &["https://a.example/"]).contains("belongs to --webhook"));
        std::fs::write(data.path().join(FILE), "[[ntfy]]\nnme = 1\n").expect("written");
        assert!(load(None, &[]).contains("notify.toml:2:1: unknown field `nme`"));
    }
}
