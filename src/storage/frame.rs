//! How records lie in a log file, and how a file is read back after anything happened to it.
//!
//! Source: CRC32C (Castagnoli). In: payloads, or the bytes of a file. Out: frames, or records with
//! a verdict. Holds: a frame counts only in the store, file and place it was written for, so
//! nothing stale is ever a record. Elsewhere: files, order of syncs (`log`), what to do about a
//! verdict (`recovery`, `verify`).
//!
//! A file is a 64-byte header, frames at multiples of 8, and zeros. A frame is a 16-byte header
//! (payload length, durable mark, kind, 24-bit check of this header, CRC32C of header and payload),
//! the payload, and zeros up to the next multiple of 8. The *durable mark* says how far this file
//! was synced when the frame was written. It tells damage from a torn tail: an unreadable place
//! below a later frame's mark once was durable. After every sync a payload-free *mark frame* is
//! put, unsynced, where the next record will overwrite it, so that this holds for the last records
//! too.

use crc32c::crc32c_append;

use super::store::StoreId;

/// Bytes of the header of a log file.
pub(super) const FILE_HEADER_BYTES: u32 = 64;
/// Bytes of the header of a frame.
pub(super) const FRAME_HEADER_BYTES: u32 = 16;
/// The layout that this code writes; a higher one is refused.
pub(super) const FORMAT_VERSION: u32 = 1;

const ALIGN: u32 = 8;
const MAGIC: [u8; 8] = *b"CNSRTLOG";
/// Set in the length field of a mark frame.
const MARK_BIT: u32 = 1 << 31;

/// The header of a log file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct FileHeader {
    /// The layout version.
    pub(super) version: u32,
    /// Length of the whole file in bytes.
    pub(super) capacity: u32,
    /// Whose it is.
    pub(super) store: StoreId,
    /// Its number.
    pub(super) file: u64,
    /// Where the records of the file before ended; 0 when there was none.
    pub(super) previous_end: u32,
}

impl FileHeader {
    /// The bytes as written.
    pub(super) fn encode(&self) -> [u8; FILE_HEADER_BYTES as usize] {
        let mut bytes = [0; FILE_HEADER_BYTES as usize];
        bytes[..8].copy_from_slice(&MAGIC);
        bytes[8..12].copy_from_slice(&self.version.to_le_bytes());
        bytes[12..16].copy_from_slice(&self.capacity.to_le_bytes());
        bytes[16..32].copy_from_slice(&self.store.0);
        bytes[32..40].copy_from_slice(&self.file.to_le_bytes());
        bytes[40..44].copy_from_slice(&self.previous_end.to_le_bytes());
        let crc = crc32c::crc32c(&bytes[..60]);
        bytes[60..].copy_from_slice(&crc.to_le_bytes());
        bytes
    }

    /// Reads it back; `None` when it is not whole.
    pub(super) fn decode(bytes: &[u8; FILE_HEADER_BYTES as usize]) -> Option<Self> {
        let crc = word(bytes, 60);
        if bytes[..8] != MAGIC || crc32c::crc32c(&bytes[..60]) != crc {
            return None;
        }
        let mut store = [0; 16];
        store.copy_from_slice(&bytes[16..32]);
        Some(Self {
            version: word(bytes, 8),
            capacity: word(bytes, 12),
            store: StoreId(store),
            file: u64::from(word(bytes, 32)) | u64::from(word(bytes, 36)) << 32,
            previous_end: word(bytes, 40),
        })
    }
}

/// What ties a frame to its store and file.
#[derive(Clone, Copy, Debug)]
pub(super) struct Salt(u32);

impl Salt {
    /// The salt of `file` in `store`.
    pub(super) fn new(store: StoreId, file: u64) -> Self {
        Self(crc32c_append(crc32c::crc32c(&store.0), &file.to_le_bytes()))
    }
}

/// The header of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct FrameHeader {
    /// Length of the payload in bytes.
    pub(super) length: u32,
    /// How far the file was synced when the frame was written.
    pub(super) durable: u32,
    /// What the caller calls this record.
    pub(super) kind: u8,
    /// Whether it only carries the durable mark.
    pub(super) is_mark: bool,
    crc: u32,
}

impl FrameHeader {
    fn fields(&self) -> [u8; 9] {
        let mut fields = [0; 9];
        let length = if self.is_mark {
            self.length | MARK_BIT
        } else {
            self.length
        };
        fields[..4].copy_from_slice(&length.to_le_bytes());
        fields[4..8].copy_from_slice(&self.durable.to_le_bytes());
        fields[8] = self.kind;
        fields
    }

    fn encode(&self, salt: Salt, offset: u32) -> [u8; FRAME_HEADER_BYTES as usize] {
        let mut bytes = [0; FRAME_HEADER_BYTES as usize];
        let fields = self.fields();
        bytes[..9].copy_from_slice(&fields);
        bytes[9..12].copy_from_slice(&check(salt, offset, &fields).to_le_bytes()[..3]);
        bytes[12..].copy_from_slice(&self.crc.to_le_bytes());
        bytes
    }

    /// Reads a header that claims to stand at `offset`; `None` when it does not belong there.
    pub(super) fn decode(salt: Salt, offset: u32, bytes: &[u8]) -> Option<Self> {
        let length = word(bytes, 0);
        let header = Self {
            length: length & !MARK_BIT,
            durable: word(bytes, 4),
            kind: bytes[8],
            is_mark: length & MARK_BIT != 0,
            crc: word(bytes, 12),
        };
        let expected = check(salt, offset, &header.fields()).to_le_bytes();
        let shape = !header.is_mark || (header.length == 0 && header.durable == offset);
        (bytes[9..12] == expected[..3] && shape && header.durable <= offset).then_some(header)
    }

    /// Whether `payload` is what was written behind this header.
    pub(super) fn covers(&self, salt: Salt, offset: u32, payload: &[u8]) -> bool {
        self.crc == checksum(salt, offset, &self.fields(), payload)
    }

    /// Bytes of the whole frame with its padding.
    pub(super) fn frame_bytes(&self) -> u64 {
        frame_bytes(self.length as usize)
    }
}

fn word(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

/// The 24-bit check of a frame header; it makes a wrong length harmless and a search for frames
/// quick.
fn check(salt: Salt, offset: u32, fields: &[u8; 9]) -> u32 {
    let mut bytes = [0; 13];
    bytes[..4].copy_from_slice(&offset.to_le_bytes());
    bytes[4..].copy_from_slice(fields);
    crc32c_append(salt.0, &bytes) & 0x00ff_ffff
}

fn checksum(salt: Salt, offset: u32, fields: &[u8; 9], payload: &[u8]) -> u32 {
    let start = crc32c_append(!salt.0, &offset.to_le_bytes());
    crc32c_append(crc32c_append(start, fields), payload)
}

/// Bytes of a frame with a payload of `length` bytes, padding included.
pub(super) fn frame_bytes(length: usize) -> u64 {
    (length as u64 + u64::from(FRAME_HEADER_BYTES)).next_multiple_of(u64::from(ALIGN))
}

/// Appends the frame of one record that will stand at `offset` to `out`.
pub(super) fn encode(
    salt: Salt,
    (offset, durable): (u32, u32),
    (kind, payload): (u8, &[u8]),
    out: &mut Vec<u8>,
) {
    let length = u32::try_from(payload.len()).expect("a record fits into a log file");
    assert!(length < MARK_BIT, "a record is shorter than 2 GiB");
    assert!(
        durable <= offset,
        "a frame is written behind what is durable"
    );
    let mut header = FrameHeader {
        length,
        durable,
        kind,
        is_mark: false,
        crc: 0,
    };
    header.crc = checksum(salt, offset, &header.fields(), payload);
    let start = out.len() as u64;
    out.extend_from_slice(&header.encode(salt, offset));
    out.extend_from_slice(payload);
    out.resize((start + header.frame_bytes()) as usize, 0);
}

/// The mark frame that says that everything below `offset` is durable.
pub(super) fn encode_mark(salt: Salt, offset: u32) -> [u8; FRAME_HEADER_BYTES as usize] {
    let mut header = FrameHeader {
        length: 0,
        durable: offset,
        kind: 0,
        is_mark: true,
        crc: 0,
    };
    header.crc = checksum(salt, offset, &header.fields(), &[]);
    header.encode(salt, offset)
}

/// What stands at one place of a file.
enum Item<'a> {
    Record(FrameHeader, &'a [u8]),
    Mark,
    Nothing,
    Unreadable(&'static str),
}

fn item<'a>(salt: Salt, data: &'a [u8], offset: u32) -> Item<'a> {
    let rest = &data[offset as usize..];
    if rest.len() < FRAME_HEADER_BYTES as usize {
        return if is_zero(rest) {
            Item::Nothing
        } else {
            Item::Unreadable("bytes after the end")
        };
    }
    let (head, body) = rest.split_at(FRAME_HEADER_BYTES as usize);
    if is_zero(head) {
        return Item::Nothing;
    }
    let Some(header) = FrameHeader::decode(salt, offset, head) else {
        return Item::Unreadable("not a record header of this place");
    };
    let padded = (header.frame_bytes() - u64::from(FRAME_HEADER_BYTES)) as usize;
    if padded > body.len() {
        return Item::Unreadable("a record longer than its file");
    }
    let (payload, padding) = body[..padded].split_at(header.length as usize);
    if !header.covers(salt, offset, payload) {
        return Item::Unreadable("a record that does not match its checksum");
    }
    if !is_zero(padding) {
        return Item::Unreadable("padding that is not zero");
    }
    if header.is_mark {
        Item::Mark
    } else {
        Item::Record(header, payload)
    }
}

/// An unreadable place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Flaw {
    /// Where it starts.
    pub(super) offset: u32,
    /// What is wrong there.
    pub(super) what: &'static str,
    /// Whether a later frame proves that it once was durable: damage, not a torn write.
    pub(super) was_durable: bool,
    /// The next readable record behind it, in this file.
    pub(super) resume: Option<u32>,
}

/// What a walk over one file found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Scan {
    /// Behind the last record before anything unreadable.
    pub(super) end: u32,
    /// How far the frames themselves prove that the file was synced.
    pub(super) proven: u32,
    /// The first unreadable place.
    pub(super) flaw: Option<Flaw>,
}

/// Walks the frames of `data` (a whole file) from `start`, gives every record to `visit` with its
/// offset, and judges what stands behind the last one.
pub(super) fn scan(
    salt: Salt,
    data: &[u8],
    start: u32,
    visit: &mut dyn FnMut(u32, u8, &[u8]),
) -> Scan {
    let mut scan = Scan {
        end: start,
        proven: FILE_HEADER_BYTES,
        flaw: None,
    };
    let (rest, what) = loop {
        match item(salt, data, scan.end) {
            Item::Record(header, payload) => {
                visit(scan.end, header.kind, payload);
                scan.proven = scan.proven.max(header.durable);
                scan.end += header.frame_bytes() as u32;
            }
            Item::Mark => {
                scan.proven = scan.end;
                break (scan.end + FRAME_HEADER_BYTES, "bytes after the end");
            }
            Item::Nothing => break (scan.end, "bytes after the end"),
            Item::Unreadable(what) => break (scan.end, what),
        }
    };
    if let Some(at) = data[rest as usize..].iter().position(|byte| *byte != 0) {
        let unreadable = what != "bytes after the end";
        let offset = if unreadable {
            scan.end
        } else {
            rest + at as u32
        };
        let (was_durable, resume) = search(salt, data, scan.end);
        scan.flaw = Some(Flaw {
            offset,
            what,
            was_durable,
            resume,
        });
    }
    scan
}

/// Looks behind `from` for frames: whether one proves that `from` was durable, and where the first
/// stands.
fn search(salt: Salt, data: &[u8], from: u32) -> (bool, Option<u32>) {
    let (mut was_durable, mut resume) = (false, None);
    let mut offset = from + ALIGN;
    while offset + FRAME_HEADER_BYTES <= data.len() as u32 && !was_durable {
        let next = match item(salt, data, offset) {
            Item::Record(header, _) => {
                resume = resume.or(Some(offset));
                was_durable = header.durable > from;
                offset + header.frame_bytes() as u32
            }
            Item::Mark => {
                was_durable = true;
                offset + FRAME_HEADER_BYTES
            }
            Item::Nothing | Item::Unreadable(_) => offset + ALIGN,
        };
        offset = next;
    }
    (was_durable, resume)
}

/// Whether every byte is zero.
pub(super) fn is_zero(bytes: &[u8]) -> bool {
    let (chunks, rest) = bytes.as_chunks::<64>();
    chunks.iter().all(|chunk| *chunk == [0; 64]) && rest.iter().all(|byte| *byte == 0)
}
