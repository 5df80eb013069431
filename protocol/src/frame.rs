//! Frames: a little-endian `u32` length, then that many bytes of JSON.
//!
//! [`encode`] makes one; [`Decoder`] takes bytes as they come and gives messages back. A length over
//! [`MAX_FRAME`] is refused before anything is allocated for it, so a hostile peer costs at most one frame
//! of memory. After an error a decoder stays broken: a stream that lost its framing cannot be trusted again.

use serde::Serialize;
use serde::de::DeserializeOwned;

/// Largest body of a frame in bytes: room for the 2 MiB of arguments and environment that Linux allows a
/// program by default, escaped.
pub const MAX_FRAME: usize = 4 << 20;

const LENGTH_BYTES: usize = size_of::<u32>();

/// Why bytes are not a message.
#[derive(Debug, thiserror::Error)]
pub enum FrameError {
    /// The body would be over [`MAX_FRAME`].
    #[error("message of {0} bytes, over the limit of {MAX_FRAME}")]
    TooLarge(usize),
    /// The body is not a message of the expected type.
    #[error("malformed message")]
    Malformed(#[from] serde_json::Error),
    /// The stream ended inside a frame.
    #[error("connection ended inside a message, {0} bytes after its start")]
    Truncated(usize),
    /// An earlier frame was bad.
    #[error("message after a malformed one")]
    Broken,
}

/// Encodes one message as a frame.
///
/// # Errors
/// [`FrameError::TooLarge`] when the message does not fit a frame.
pub fn encode<T: Serialize>(message: &T) -> Result<Vec<u8>, FrameError> {
    let mut frame = vec![0; LENGTH_BYTES];
    serde_json::to_writer(&mut frame, message)?;
    let length = frame.len() - LENGTH_BYTES;
    let prefix =
        u32::try_from(length).ok().filter(|_| length <= MAX_FRAME).ok_or(FrameError::TooLarge(length))?;
    for (to, from) in frame.iter_mut().zip(prefix.to_le_bytes()) {
        *to = from;
    }
    Ok(frame)
}

/// Turns a byte stream into messages.
#[derive(Debug, Default)]
pub struct Decoder {
    buffer: Vec<u8>,
    broken: bool,
}

impl Decoder {
    /// An empty decoder.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds bytes that were read from the stream.
    pub fn push(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// The next whole message, or `None` when more bytes are needed.
    ///
    /// # Errors
    /// [`FrameError`] when the bytes are not a message; every later call then fails too.
    pub fn take<T: DeserializeOwned>(&mut self) -> Result<Option<T>, FrameError> {
        if self.broken {
            return Err(FrameError::Broken);
        }
        let result = self.decode();
        self.broken = result.is_err();
        result
    }

    /// Says that the stream has ended.
    ///
    /// # Errors
    /// [`FrameError::Truncated`] when it ended inside a frame.
    pub fn finish(&self) -> Result<(), FrameError> {
        if self.buffer.is_empty() { Ok(()) } else { Err(FrameError::Truncated(self.buffer.len())) }
    }

    fn decode<T: DeserializeOwned>(&mut self) -> Result<Option<T>, FrameError> {
        let Some(prefix) = self.buffer.first_chunk::<LENGTH_BYTES>() else { return Ok(None) };
        let length = usize::try_from(u32::from_le_bytes(*prefix)).unwrap_or(usize::MAX);
        if length > MAX_FRAME {
            return Err(FrameError::TooLarge(length));
        }
        let end = LENGTH_BYTES + length;
        let Some(body) = self.buffer.get(LENGTH_BYTES..end) else { return Ok(None) };
        let message = serde_json::from_slice(body)?;
        self.buffer.drain(..end);
        Ok(Some(message))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{HostMessage, SignalTarget};

    fn signal(signal: i32) -> HostMessage {
        HostMessage::Signal { container: "a".into(), target: SignalTarget::Main, signal }
    }

    #[test]
    fn messages_survive_any_split() {
        let bytes: Vec<u8> = (1..=3).flat_map(|n| encode(&signal(n)).unwrap()).collect();
        for size in 1..=bytes.len() {
            let mut decoder = Decoder::new();
            let mut got = Vec::new();
            for piece in bytes.chunks(size) {
                decoder.push(piece);
                while let Some(message) = decoder.take::<HostMessage>().unwrap() {
                    got.push(message);
                }
            }
            assert_eq!(got, [signal(1), signal(2), signal(3)], "pieces of {size}");
            decoder.finish().unwrap();
        }
    }

    #[test]
    fn every_truncation_is_noticed() {
        let bytes = encode(&signal(9)).unwrap();
        for length in 1..bytes.len() {
            let mut decoder = Decoder::new();
            decoder.push(&bytes[..length]);
            assert_eq!(decoder.take::<HostMessage>().unwrap(), None);
            assert!(matches!(decoder.finish(), Err(FrameError::Truncated(n)) if n == length));
        }
    }

    #[test]
    fn an_oversized_length_is_refused_at_once_and_for_good() {
        let mut decoder = Decoder::new();
        decoder.push(&u32::MAX.to_le_bytes());
        assert!(matches!(decoder.take::<HostMessage>(), Err(FrameError::TooLarge(_))));
        decoder.push(&encode(&signal(1)).unwrap());
        assert!(matches!(decoder.take::<HostMessage>(), Err(FrameError::Broken)));
    }

    #[test]
    fn an_oversized_message_is_not_encoded() {
        let container = "x".repeat(MAX_FRAME + 1);
        assert!(matches!(
            encode(&HostMessage::Start { container, state: String::new() }),
            Err(FrameError::TooLarge(_))
        ));
    }

    #[test]
    fn unknown_fields_and_types_are_errors() {
        for body in [
            r#"{"type":"start","container":"a","extra":1}"#,
            r#"{"type":"launch","container":"a"}"#,
            r#"{"container":"a"}"#,
            "[]",
            "",
            "\u{0}",
        ] {
            let mut decoder = Decoder::new();
            decoder.push(&u32::try_from(body.len()).unwrap().to_le_bytes());
            decoder.push(body.as_bytes());
            assert!(matches!(decoder.take::<HostMessage>(), Err(FrameError::Malformed(_))), "{body:?}");
        }
    }
}
