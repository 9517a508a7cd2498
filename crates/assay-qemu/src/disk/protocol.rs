//! The network block device protocol, as far as QEMU's client needs it: fixed newstyle handshake, simple replies.
//!
//! Written after the protocol's own document (doc/proto.md of the nbd project). Numbers are big-endian.

use std::io::{self, Read, Write};

const MAGIC: u64 = 0x4e42_444d_4147_4943;
const OPTION_MAGIC: u64 = 0x4948_4156_454f_5054;
const OPTION_REPLY: u64 = 0x0003_e889_0455_65a9;
const REQUEST_MAGIC: u32 = 0x2560_9513;
const REPLY_MAGIC: u32 = 0x6744_6698;
const FIXED_NEWSTYLE_NO_ZEROES: u16 = 1 | 2;
/// has flags, flush, FUA, trim, write zeroes, several connections.
const EXPORT_FLAGS: u16 = 1 | 4 | 8 | 32 | 64 | 256;
const EXPORT_NAME: u32 = 1;
const ABORT: u32 = 2;
const INFO: u32 = 6;
const GO: u32 = 7;
const ACK: u32 = 1;
const INFO_REPLY: u32 = 3;
const UNSUPPORTED: u32 = 0x8000_0001;
/// Nothing that a client says before the first request is longer.
const LONGEST_OPTION: u32 = 64 * 1024;
/// What QEMU sends at most.
pub(super) const LONGEST_REQUEST: u32 = 64 * 1024 * 1024;

/// What a client wants.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Request {
    /// Its name for it.
    pub(super) cookie: u64,
    /// What is to be done.
    pub(super) command: Command,
    /// From which byte on.
    pub(super) offset: u64,
    /// How many bytes.
    pub(super) length: u32,
}

/// What is to be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Command {
    /// Read.
    Read,
    /// Write these bytes.
    Write(Vec<u8>),
    /// The client leaves.
    Disconnect,
    /// Everything written must be stored.
    Flush,
    /// These bytes are not needed any more.
    Trim,
    /// Write zeroes.
    WriteZeroes,
    /// Something else.
    Unknown,
}

/// How a request went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Answer {
    /// Well.
    Ok = 0,
    /// The medium failed.
    Io = 5,
    /// It made no sense.
    Invalid = 22,
    /// There is no room.
    NoSpace = 28,
}

/// Agrees with a client that it gets a device of that many bytes. False when it goes away instead.
pub(super) fn handshake(stream: &mut (impl Read + Write), size: u64) -> io::Result<bool> {
    let mut hello = Vec::new();
    hello.extend(MAGIC.to_be_bytes());
    hello.extend(OPTION_MAGIC.to_be_bytes());
    hello.extend(FIXED_NEWSTYLE_NO_ZEROES.to_be_bytes());
    stream.write_all(&hello)?;
    let no_zeroes = read_u32(stream)? & 2 != 0;
    loop {
        if read_u64(stream)? != OPTION_MAGIC {
            return Err(garbled("an option"));
        }
        let option = read_u32(stream)?;
        let length = read_u32(stream)?;
        if length > LONGEST_OPTION {
            return Err(garbled("an option's length"));
        }
        let mut data = vec![0; length as usize];
        stream.read_exact(&mut data)?;
        match option {
            EXPORT_NAME => {
                let mut export = size.to_be_bytes().to_vec();
                export.extend(EXPORT_FLAGS.to_be_bytes());
                export.resize(if no_zeroes { 10 } else { 134 }, 0);
                stream.write_all(&export)?;
                return Ok(true);
            }
            INFO | GO => {
                let mut export = 0_u16.to_be_bytes().to_vec();
                export.extend(size.to_be_bytes());
                export.extend(EXPORT_FLAGS.to_be_bytes());
                option_reply(stream, option, INFO_REPLY, &export)?;
                option_reply(stream, option, ACK, &[])?;
                if option == GO {
                    return Ok(true);
                }
            }
            ABORT => {
                option_reply(stream, option, ACK, &[])?;
                return Ok(false);
            }
            _ => option_reply(stream, option, UNSUPPORTED, &[])?,
        }
    }
}

/// The next request; `None` when the client has gone between two.
pub(super) fn request(stream: &mut impl Read) -> io::Result<Option<Request>> {
    let mut magic = [0; 4];
    match stream.read_exact(&mut magic) {
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        other => other?,
    }
    if u32::from_be_bytes(magic) != REQUEST_MAGIC {
        return Err(garbled("a request"));
    }
    // The flags ask for FUA at most, and every write here is as safe as the page cache is.
    let kind = read_u32(stream)? & 0xffff;
    let cookie = read_u64(stream)?;
    let offset = read_u64(stream)?;
    let length = read_u32(stream)?;
    let command = match kind {
        0 => Command::Read,
        1 => {
            if length > LONGEST_REQUEST {
                return Err(garbled("a write's length"));
            }
            let mut data = vec![0; length as usize];
            stream.read_exact(&mut data)?;
            Command::Write(data)
        }
        2 => Command::Disconnect,
        3 => Command::Flush,
        4 => Command::Trim,
        6 => Command::WriteZeroes,
        _ => Command::Unknown,
    };
    Ok(Some(Request { cookie, command, offset, length }))
}

/// Answers a request; `data` is what a read that went well has read.
pub(super) fn reply(stream: &mut impl Write, cookie: u64, answer: Answer, data: &[u8]) -> io::Result<()> {
    let mut reply = Vec::with_capacity(16 + data.len());
    reply.extend(REPLY_MAGIC.to_be_bytes());
    reply.extend((answer as u32).to_be_bytes());
    reply.extend(cookie.to_be_bytes());
    reply.extend(data);
    stream.write_all(&reply)
}

fn option_reply(stream: &mut impl Write, option: u32, kind: u32, data: &[u8]) -> io::Result<()> {
    let mut reply = OPTION_REPLY.to_be_bytes().to_vec();
    reply.extend(option.to_be_bytes());
    reply.extend(kind.to_be_bytes());
    reply.extend((data.len() as u32).to_be_bytes());
    reply.extend(data);
    stream.write_all(&reply)
}

fn read_u32(stream: &mut impl Read) -> io::Result<u32> {
    let mut bytes = [0; 4];
    stream.read_exact(&mut bytes)?;
    Ok(u32::from_be_bytes(bytes))
}

fn read_u64(stream: &mut impl Read) -> io::Result<u64> {
    let mut bytes = [0; 8];
    stream.read_exact(&mut bytes)?;
    Ok(u64::from_be_bytes(bytes))
}

fn garbled(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("the client sent {what} that is none"))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A stream with prepared input.
    struct Talk {
        input: io::Cursor<Vec<u8>>,
        output: Vec<u8>,
    }

    impl Read for Talk {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            self.input.read(buffer)
        }
    }

    impl Write for Talk {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.output.write(bytes)
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn option(kind: u32, data: &[u8]) -> Vec<u8> {
        let mut bytes = OPTION_MAGIC.to_be_bytes().to_vec();
        bytes.extend(kind.to_be_bytes());
        bytes.extend((data.len() as u32).to_be_bytes());
        bytes.extend(data);
        bytes
    }

    fn talk(parts: &[Vec<u8>]) -> Talk {
        Talk { input: io::Cursor::new(parts.concat()), output: Vec::new() }
    }

    #[test]
    fn a_client_learns_what_is_not_known_and_the_size() {
        let mut stream = talk(&[3_u32.to_be_bytes().to_vec(), option(5, &[]), option(GO, &[0; 6])]);
        assert!(handshake(&mut stream, 1 << 26).expect("agreed"));
        let said = stream.output;
        assert_eq!(&said[..16], b"NBDMAGICIHAVEOPT");
        assert_eq!(said[30..34], UNSUPPORTED.to_be_bytes(), "TLS is refused and the talk goes on");
        assert!(said.windows(8).any(|part| part == (1_u64 << 26).to_be_bytes()));
        let mut leaves = talk(&[3_u32.to_be_bytes().to_vec(), option(ABORT, &[])]);
        assert!(!handshake(&mut leaves, 1).expect("left"));
        let mut garbage = talk(&[vec![0; 40]]);
        assert!(handshake(&mut garbage, 1).is_err());
    }

    #[test]
    fn a_request_is_read_whole_or_not_at_all() {
        let mut bytes = REQUEST_MAGIC.to_be_bytes().to_vec();
        bytes.extend([0, 0, 0, 1]);
        bytes.extend(7_u64.to_be_bytes());
        bytes.extend(512_u64.to_be_bytes());
        bytes.extend(3_u32.to_be_bytes());
        bytes.extend(b"abc");
        let read = request(&mut io::Cursor::new(bytes.clone())).expect("read");
        let command = Command::Write(b"abc".to_vec());
        assert_eq!(read, Some(Request { cookie: 7, command, offset: 512, length: 3 }));
        assert_eq!(request(&mut io::Cursor::new(Vec::new())).expect("the end"), None);
        bytes.pop();
        assert!(request(&mut io::Cursor::new(bytes)).is_err());
    }
}
