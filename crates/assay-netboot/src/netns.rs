//! Does one blocking thing inside a network namespace and comes back.
//!
//! A namespace belongs to a thread, and a thread of the async runtime must never be left in a foreign one: so a
//! thread is made for it and ends with it. A socket stays in the namespace it was made in, whoever uses it.

use std::{fs::File, io, os::fd::AsFd, path::Path, thread};

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use tokio::sync::oneshot;

/// How a place is called in messages.
pub(crate) fn place(netns: Option<&str>) -> String {
    netns.map_or_else(|| "the host's network".to_owned(), |name| format!("network namespace `{name}`"))
}

/// Runs `work` in the named namespace, or in ours for `None`.
pub(crate) async fn within<T, F>(netns: Option<&str>, work: F) -> io::Result<T>
where
    T: Send + 'static,
    F: FnOnce() -> io::Result<T> + Send + 'static,
{
    let Some(name) = netns else { return work() };
    let namespace = open(name)?;
    let (sender, receiver) = oneshot::channel();
    thread::Builder::new().name("netns".to_owned()).spawn(move || {
        let entered = move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network));
        // The receiver is gone only if the caller was cancelled; then nobody wants the result.
        let _ = sender.send(entered.map_err(io::Error::from).and_then(|()| work()));
    })?;
    receiver
        .await
        .map_err(|_| io::Error::other("the thread in the network namespace ended without a result"))?
}

fn open(name: &str) -> io::Result<File> {
    if name.is_empty() || name.contains('/') || name.starts_with('.') {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            format!("`{name}` is no name of a network namespace"),
        ));
    }
    let missing =
        || io::Error::new(io::ErrorKind::NotFound, format!("network namespace `{name}` does not exist"));
    ["/run/netns", "/var/run/netns"]
        .iter()
        .find_map(|folder| File::open(Path::new(folder).join(name)).ok())
        .ok_or_else(missing)
}
