//! Says what to do when the files that pages load have not been made yet; rust-embed's own message does not.

use std::path::Path;

fn main() {
    let dist = Path::new("../../assets/dist");
    println!("cargo::rerun-if-changed={}", dist.display());
    println!("cargo::rerun-if-changed=templates");
    if !dist.join("app.css").is_file() {
        println!(
            "cargo::error=the pages' style and script are not built yet: run `cargo xtask assets` first (it needs npm)"
        );
    }
}
