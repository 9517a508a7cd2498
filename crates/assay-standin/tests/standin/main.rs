//! The stand-in, used by the clients that it is there for: the real `git`, an HTTP client, and bytes that are neither.

mod apis;
mod bench;
mod faults;
mod git_client;
mod kept;
mod life;
mod limits;
mod operations;
mod tls;
