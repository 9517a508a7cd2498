//! What the runner and the machine that works for it say to each other, over one stream of bytes. The machine is a stranger's as soon
//! as a container has got out in it, so all that it says is sized before it is read, and typed.
//!
//! A frame is its kind (one byte), its length (four, the highest first) and that many bytes: a message as JSON, or a piece of what
//! the message before it announced.

use std::io::{self, Read};

use assay_model::{RunId, StageName};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncReadExt as _};

use crate::recipe::RecipeSpec;
use crate::recipe::evidence::ImageFetched;

/// The longest message, in bytes: the evidence of a stage.
const LONGEST_MESSAGE: usize = 16 << 20;
/// The longest piece, in bytes.
pub(super) const LONGEST_PIECE: usize = 256 << 10;
/// What all files of a stage may have together, in bytes.
pub(super) const MOST_ARTIFACTS: u64 = 128 << 20;
/// How many of them there may be.
pub(super) const ARTIFACTS: usize = 512;
/// The bytes before each frame's own.
const HEAD: usize = 5;

/// What the runner says.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "ask", rename_all = "snake_case")]
pub(super) enum Ask {
    /// Collect the evidence of a stage. Answered by [`Told::Brought`] or [`Told::Failed`].
    Collect {
        /// The run.
        run: RunId,
        /// Which stage.
        stage: StageName,
        /// What is tested, with folders as they are in the machine.
        spec: Box<RecipeSpec>,
    },
    /// The answer to [`Told::WantsImage`].
    Image(ImageAnswer),
}

/// What comes of an image that was asked for.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "image", rename_all = "snake_case")]
pub(super) enum ImageAnswer {
    /// Pieces of an archive follow, so many bytes together.
    Archive {
        /// How many.
        bytes: u64,
        /// Where it was found.
        found: ImageFound,
    },
    /// There is none: the recipe's fault.
    Missing {
        /// Why, as half a sentence.
        why: String,
    },
    /// It was not brought: the runner's fault.
    Failed {
        /// Why, as one sentence.
        why: String,
    },
}

/// Where an image was found, as evidence tells it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct ImageFound {
    /// In words.
    pub(super) from: String,
    /// Its digests at its registry.
    pub(super) digests: Vec<String>,
    /// What came from outside.
    pub(super) fetched: Option<ImageFetched>,
}

/// What the machine says.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "told", rename_all = "snake_case")]
pub(super) enum Told {
    /// It is up, and waits to be asked.
    Up,
    /// It is still there; said every few seconds.
    Alive,
    /// How far it is.
    Progress {
        /// The words.
        words: String,
    },
    /// It needs an image.
    WantsImage(WantedImage),
    /// The evidence of a stage. The pieces of all its files follow, one file after the other.
    Brought {
        /// What the judge reads.
        evidence: Value,
        /// The files' names and lengths.
        artifacts: Vec<(String, u64)>,
    },
    /// The work could not be done.
    Failed {
        /// Why, for people.
        why: String,
        /// Whether something of the machine's was used up, so that another like it would come to the same.
        exhausted: bool,
    },
}

/// An image that a daemon in the machine is to have.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WantedImage {
    /// As the recipe has it.
    pub reference: String,
    /// What a registry is asked for: the bytes that were brought before, where they were.
    pub name: String,
    /// What it is to be called in the daemon.
    pub called: String,
}

/// A frame that was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Frame {
    /// A message, not read yet.
    Message(Vec<u8>),
    /// A piece.
    Piece(Vec<u8>),
}

/// What is wrong with what was said.
#[derive(Debug, thiserror::Error)]
pub(super) enum WireError {
    /// The stream.
    #[error("the channel is closed ({0})")]
    Closed(#[from] io::Error),
    /// Too much of it.
    #[error("it said something of {bytes} bytes, and {most} are the most")]
    TooLong {
        /// As it was announced.
        bytes: u64,
        /// What is allowed.
        most: u64,
    },
    /// Not understood.
    #[error("it said something that is not understood ({0})")]
    Nonsense(String),
}

impl Frame {
    /// A message as it goes over the stream.
    pub(super) fn of_message(message: &impl Serialize) -> Result<Vec<u8>, WireError> {
        let body = serde_json::to_vec(message).map_err(|error| WireError::Nonsense(error.to_string()))?;
        if body.len() > LONGEST_MESSAGE {
            return Err(WireError::TooLong { bytes: body.len() as u64, most: LONGEST_MESSAGE as u64 });
        }
        Ok(framed(b'm', &body))
    }

    /// A piece as it goes over the stream.
    pub(super) fn of_piece(piece: &[u8]) -> Vec<u8> {
        framed(b'p', piece)
    }

    /// Reads the next one.
    pub(super) async fn next(from: &mut (impl AsyncRead + Unpin)) -> Result<Self, WireError> {
        let mut head = [0; HEAD];
        from.read_exact(&mut head).await?;
        let (kind, length) = announced(head)?;
        let mut body = vec![0; length];
        from.read_exact(&mut body).await?;
        Ok(kind(body))
    }

    /// Reads the next one, waiting for it.
    pub(super) fn read(from: &mut impl Read) -> Result<Self, WireError> {
        let mut head = [0; HEAD];
        from.read_exact(&mut head)?;
        let (kind, length) = announced(head)?;
        let mut body = vec![0; length];
        from.read_exact(&mut body)?;
        Ok(kind(body))
    }

    /// What it says, where it is a message.
    pub(super) fn message<T: DeserializeOwned>(self) -> Result<T, WireError> {
        match self {
            Self::Message(body) => {
                serde_json::from_slice(&body).map_err(|error| WireError::Nonsense(error.to_string()))
            }
            Self::Piece(_) => Err(WireError::Nonsense("a piece of nothing".to_owned())),
        }
    }
}

type Kind = fn(Vec<u8>) -> Frame;

fn announced(head: [u8; HEAD]) -> Result<(Kind, usize), WireError> {
    let [kind, length @ ..] = head;
    let length = u32::from_be_bytes(length) as usize;
    let (kind, most): (Kind, usize) = match kind {
        b'm' => (Frame::Message, LONGEST_MESSAGE),
        b'p' => (Frame::Piece, LONGEST_PIECE),
        other => return Err(WireError::Nonsense(format!("a frame of the kind {other}"))),
    };
    if length > most {
        return Err(WireError::TooLong { bytes: length as u64, most: most as u64 });
    }
    Ok((kind, length))
}

fn framed(kind: u8, body: &[u8]) -> Vec<u8> {
    let mut frame = Vec::with_capacity(HEAD + body.len());
    frame.push(kind);
    frame.extend((body.len() as u32).to_be_bytes());
    frame.extend(body);
    frame
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_is_said_arrives_on_either_side() {
        let said = Told::Progress { words: "über 34 s".to_owned() };
        let mut stream = Frame::of_message(&said).unwrap();
        stream.extend(Frame::of_piece(b"abc"));
        let mut waiting = stream.as_slice();
        assert_eq!(Frame::next(&mut waiting).await.unwrap().message::<Told>().unwrap(), said);
        assert_eq!(Frame::next(&mut waiting).await.unwrap(), Frame::Piece(b"abc".to_vec()));
        assert!(matches!(Frame::next(&mut waiting).await, Err(WireError::Closed(_))));
        let mut blocking = stream.as_slice();
        assert_eq!(Frame::read(&mut blocking).unwrap().message::<Told>().unwrap(), said);
        assert_eq!(Frame::read(&mut blocking).unwrap(), Frame::Piece(b"abc".to_vec()));
    }

    #[test]
    fn a_machine_that_says_too_much_or_nonsense_is_not_listened_to() {
        let refused = |bytes: &[u8]| Frame::read(&mut &*bytes).unwrap_err().to_string();
        insta::assert_snapshot!(refused(&[b'm', 0xff, 0, 0, 0]), @"it said something of 4278190080 bytes, and 16777216 are the most");
        insta::assert_snapshot!(refused(&[b'p', 0, 5, 0, 0]), @"it said something of 327680 bytes, and 262144 are the most");
        insta::assert_snapshot!(refused(b"xaaaa"), @"it said something that is not understood (a frame of the kind 120)");
        let nonsense =
            |text: &str| Frame::Message(text.as_bytes().to_vec()).message::<Told>().unwrap_err().to_string();
        assert!(nonsense(r#"{"told": "everything"}"#).contains("not understood (unknown variant"));
        assert!(nonsense("{").contains("not understood"));
        assert!(Frame::Piece(Vec::new()).message::<Told>().is_err());
    }
}
