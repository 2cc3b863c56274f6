//! Where a client's bytes are in the framing of HTTP/2 (RFC 9113, section 4).
//!
//! Who speaks HTTP/2 with the client is hyper, and it does not say what it waits for. This looks at the headers of the
//! frames on their way in, for the time-outs and for the bounds. It judges nothing else: what is no HTTP/2 is found by
//! hyper.

/// What a client says before its first frame, which is to be its SETTINGS.
const PREFACE_LEN: u32 = 24;

/// Length (3), type, flags, stream (4).
const HEADER_LEN: usize = 9;

const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const WINDOW_UPDATE: u8 = 8;
const CONTINUATION: u8 = 9;
const END_HEADERS: u8 = 4;
const ACK: u8 = 1;

/// A client's frames, as they come.
#[derive(Debug)]
pub(in crate::gateway) struct Frames {
    /// The header of the frame that is coming, as far as it is here.
    header: [u8; HEADER_LEN],
    header_len: usize,
    /// Bytes of the preface or of the frame's payload that are to come.
    left: u32,
    /// What is being sent is a head: the connection's own, which is the preface and the first frame, or a request's.
    in_head: bool,
    /// It ends with this frame.
    head_ends: bool,
    counted: Counted,
}

/// What came, so far.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(in crate::gateway) struct Counted {
    /// Heads that began, the connection's own besides: HEADERS.
    pub(in crate::gateway) heads: u64,
    /// Streams that the client broke off: RST_STREAM.
    pub(in crate::gateway) resets: u64,
    /// Leave to send on, so the client took something: WINDOW_UPDATE.
    pub(in crate::gateway) credits: u64,
    /// What is to be acknowledged, the first one included: SETTINGS.
    pub(in crate::gateway) settings: u64,
}

impl Default for Frames {
    fn default() -> Self {
        Self {
            header: [0; HEADER_LEN],
            header_len: 0,
            left: PREFACE_LEN,
            in_head: true,
            head_ends: false,
            counted: Counted::default(),
        }
    }
}

impl Frames {
    /// Some bytes came.
    pub(in crate::gateway) fn came(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            if self.left > 0 {
                let now = usize::try_from(self.left).unwrap_or(usize::MAX).min(bytes.len());
                bytes = &bytes[now..];
                self.left -= u32::try_from(now).unwrap_or(self.left);
            } else {
                let now = (HEADER_LEN - self.header_len).min(bytes.len());
                let (header, rest) = bytes.split_at(now);
                self.header[self.header_len..self.header_len + now].copy_from_slice(header);
                self.header_len += now;
                bytes = rest;
                if self.header_len == HEADER_LEN {
                    self.header_len = 0;
                    self.begin();
                }
            }
            if self.left == 0 && self.head_ends {
                (self.in_head, self.head_ends) = (false, false);
            }
        }
    }

    /// The head that has begun and is not whole yet, by its number.
    pub(in crate::gateway) fn open_head(&self) -> Option<u64> {
        self.in_head.then_some(self.counted.heads)
    }

    /// What came so far.
    pub(in crate::gateway) fn counted(&self) -> Counted {
        self.counted
    }

    /// A frame begins.
    fn begin(&mut self) {
        let [high, middle, low, kind, flags, ..] = self.header;
        self.left = u32::from_be_bytes([0, high, middle, low]);
        match kind {
            HEADERS => {
                self.counted.heads += 1;
                self.in_head = true;
                self.head_ends = flags & END_HEADERS != 0;
            }
            CONTINUATION => self.head_ends = flags & END_HEADERS != 0,
            RST_STREAM => self.counted.resets += 1,
            WINDOW_UPDATE => self.counted.credits += 1,
            SETTINGS if flags & ACK == 0 => {
                self.counted.settings += 1;
                self.head_ends = self.in_head;
            }
            // Of the head of the connection; within that of a request no other frame is allowed.
            _ => self.head_ends = self.in_head,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(kind: u8, flags: u8, payload: usize) -> Vec<u8> {
        let mut frame = u32::try_from(payload).unwrap().to_be_bytes()[1..].to_vec();
        frame.extend_from_slice(&[kind, flags, 0, 0, 0, 1]);
        frame.resize(HEADER_LEN + payload, 0);
        frame
    }

    /// The numbers of the heads that were open after each byte, without repetition.
    fn heads(stream: &[u8], step: usize) -> (Vec<Option<u64>>, Counted) {
        let mut frames = Frames::default();
        let mut open = vec![frames.open_head()];
        for piece in stream.chunks(step) {
            frames.came(piece);
            open.push(frames.open_head());
        }
        open.dedup();
        (open, frames.counted())
    }

    fn stream() -> Vec<u8> {
        [
            vec![b'P'; 24],
            frame(4, 0, 18),
            frame(HEADERS, END_HEADERS, 70),
            frame(0, 0, 16_384),
            frame(WINDOW_UPDATE, 0, 4),
            frame(HEADERS, 0, 5),
            frame(CONTINUATION, 0, 0),
            frame(CONTINUATION, END_HEADERS, 0),
            frame(6, 0, 8),
            frame(SETTINGS, 0, 6),
            frame(SETTINGS, ACK, 0),
            frame(RST_STREAM, 0, 4),
            frame(HEADERS, 1, 3),
        ]
        .concat()
    }

    #[test]
    fn heads_are_open_from_their_first_frame_to_the_last() {
        let (open, counted) = heads(&stream(), 1);
        assert_eq!(open, [Some(0), None, Some(1), None, Some(2), None, Some(3)]);
        assert_eq!(counted, Counted { heads: 3, resets: 1, credits: 1, settings: 2 });
    }

    #[test]
    fn it_does_not_matter_in_which_pieces_it_comes() {
        let counted = heads(&stream(), 1).1;
        for step in [2, 7, 9, 24, 100, 20_000] {
            let (open, same) = heads(&stream(), step);
            assert_eq!((open.last(), same), (Some(&Some(3)), counted), "{step} bytes at a time");
        }
    }

    #[test]
    fn a_connection_without_settings_has_an_open_head() {
        let mut frames = Frames::default();
        frames.came(&[b'P'; 24]);
        assert_eq!(frames.open_head(), Some(0));
        frames.came(&frame(4, 0, 6)[..14]);
        assert_eq!(frames.open_head(), Some(0));
        frames.came(&[0]);
        assert_eq!(frames.open_head(), None);
    }
}
