//! Images for a machine, asked for one by one and by name. The runner looks where it looks for every run: archives on this machine
//! first, then registries through its cache. The machine gets bytes, and sees neither folder nor credential.

use std::io;
use std::path::{Path, PathBuf};

use assay_registry::{ImageCache, Reference, Session};
use assay_swarm::Archives;
use tokio::fs::File;
use tokio::io::AsyncReadExt as _;

use super::super::images::{LIMIT, told_of};
use super::super::{RecipeBenchSettings, RecipeSpec};
use super::wire::{ImageFound, LONGEST_PIECE, WantedImage};

/// What the archive of an image is called that came from a registry, in the run's folder.
const BROUGHT: &str = "image.tar";

/// Where images for one machine come from.
pub(super) struct Shelf {
    archives: Archives,
    cache: Option<ImageCache>,
    session: Option<Session>,
    folder: PathBuf,
    /// What is left of what all of them may have together, in bytes.
    left: u64,
}

/// An image that was found.
pub(super) struct Taken {
    pub(super) archive: Archive,
    /// How long the archive is.
    pub(super) bytes: u64,
    pub(super) found: ImageFound,
}

/// The file that an image is in.
pub(super) struct Archive {
    file: File,
    left: u64,
}

impl Shelf {
    /// The archives of a run and of its runner, and the runner's cache. All images together have at most `most` bytes.
    pub(super) fn new(
        spec: &RecipeSpec,
        beside: &RecipeBenchSettings,
        folder: &Path,
        most: u64,
    ) -> Result<Self, String> {
        let folders: Vec<_> = spec.asked.images.iter().chain(&beside.images).cloned().collect();
        let archives =
            Archives::of(&folders).map_err(|(path, error)| format!("images: {}: {error}", path.display()))?;
        Ok(Self {
            archives,
            cache: beside.cache.clone(),
            session: None,
            folder: folder.to_owned(),
            left: most,
        })
    }

    /// Finds one. The inner error is the recipe's: there is no such image.
    pub(super) async fn take(&mut self, wanted: &WantedImage) -> Result<Result<Taken, String>, String> {
        if let Some(archive) = self.archives.find(&wanted.reference).map(Path::to_owned) {
            let found = ImageFound { from: "archive".to_owned(), ..ImageFound::default() };
            return self.taken(&archive, found).await.map(Ok);
        }
        let Some(cache) = self.cache.clone() else {
            return Ok(Err("no archive has it, and no registry is asked".to_owned()));
        };
        let reference: Reference = match wanted.name.parse() {
            Ok(reference) => reference,
            Err(bad) => return Ok(Err(format!("{bad}"))),
        };
        let session = if let Some(session) = &self.session {
            session.clone()
        } else {
            ImageCache::check().map_err(|error| {
                format!("no archive has the image {reference}, and registries are asked through a cache that is not installed: {error}; or give the image as an archive (--images)")
            })?;
            let session = cache.open().await.map_err(|error| format!("the cache of images: {error}"))?;
            self.session.insert(session).clone()
        };
        let brought = match session.bring(&reference, LIMIT).await {
            Ok(brought) => brought,
            Err(error) if error.class.is_of_who_named_it() => return Ok(Err(error.message)),
            Err(error) => return Err(format!("image {error}")),
        };
        let archive = self.folder.join(BROUGHT);
        let written = session.write_archive(&brought, &wanted.called, &archive).await;
        written.map_err(|error| format!("image {reference}: {error}"))?;
        let (from, fetched) = told_of(&brought);
        let found = ImageFound { from, digests: vec![brought.repository_digest()], fetched: Some(fetched) };
        let taken = self.taken(&archive, found).await;
        // What is open stays.
        let _ = std::fs::remove_file(&archive);
        taken.map(Ok)
    }

    /// Gives the cache back.
    pub(super) async fn close(self) {
        if let Some(session) = self.session {
            session.close().await;
        }
    }

    async fn taken(&mut self, archive: &Path, found: ImageFound) -> Result<Taken, String> {
        let failed = |error: io::Error| format!("{}: {error}", archive.display());
        let file = File::open(archive).await.map_err(failed)?;
        let bytes = file.metadata().await.map_err(failed)?.len();
        let Some(left) = self.left.checked_sub(bytes) else {
            return Err(format!(
                "{} has {} MiB, and does not fit on the machine's disk beside the images before it; give machines a larger one (--guest-disk)",
                archive.display(),
                bytes >> 20
            ));
        };
        self.left = left;
        Ok(Taken { archive: Archive { file, left: bytes }, bytes, found })
    }
}

impl Archive {
    /// Its bytes, piece by piece.
    pub(super) fn pieces(self) -> Pieces {
        Pieces { archive: self, buffer: vec![0; LONGEST_PIECE] }
    }
}

/// Exactly as many bytes as the archive had when it was opened.
pub(super) struct Pieces {
    archive: Archive,
    buffer: Vec<u8>,
}

impl Pieces {
    /// The next piece; none after the last.
    pub(super) async fn next(&mut self) -> io::Result<Option<&[u8]>> {
        if self.archive.left == 0 {
            return Ok(None);
        }
        let most = usize::try_from(self.archive.left).unwrap_or(usize::MAX).min(self.buffer.len());
        match self.archive.file.read(&mut self.buffer[..most]).await? {
            0 => Err(io::Error::other("it has become shorter")),
            read => {
                self.archive.left -= read as u64;
                Ok(Some(&self.buffer[..read]))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_archive_comes_in_pieces_and_whole() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.tar");
        let content: Vec<u8> = (0..LONGEST_PIECE + 7).map(|n| n as u8).collect();
        std::fs::write(&path, &content).unwrap();
        let mut shelf = Shelf {
            archives: Archives::default(),
            cache: None,
            session: None,
            folder: folder.path().to_owned(),
            left: content.len() as u64,
        };
        let taken = shelf.taken(&path, ImageFound::default()).await.unwrap();
        assert_eq!(taken.bytes, content.len() as u64);
        let (mut pieces, mut read) = (taken.archive.pieces(), Vec::<u8>::new());
        while let Some(piece) = pieces.next().await.unwrap() {
            assert!(!piece.is_empty() && piece.len() <= LONGEST_PIECE);
            read.extend(piece);
        }
        assert!(read == content);
        let Err(why) = shelf.taken(&path, ImageFound::default()).await else {
            panic!("there is room for one")
        };
        assert!(why.contains("--guest-disk"), "{why}");
    }

    #[tokio::test]
    async fn what_nobody_has_is_the_recipe_s_fault() {
        let mut shelf = Shelf {
            archives: Archives::default(),
            cache: None,
            session: None,
            folder: PathBuf::new(),
            left: 0,
        };
        let wanted =
            WantedImage { reference: "shop/web:1".to_owned(), name: String::new(), called: String::new() };
        let Ok(Err(why)) = shelf.take(&wanted).await else { panic!("there is none") };
        assert_eq!(why, "no archive has it, and no registry is asked");
    }
}
